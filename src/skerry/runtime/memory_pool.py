"""Memory that is used again: blocks of one size, for batches that would else be allocated and freed with each run."""

import contextlib
import ctypes
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skerry.core.errors import ConfigError, InsufficientResources, RejectedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIGNMENT = 64  # bytes: a cache line, and what AVX-512 loads at once
_CALLS = 3  # of who took a block, in debug mode


class Block:
    """Memory of a pool, `block_size` bytes, aligned to 64. Its content is what the last user left.

    Attributes:
        memory: the bytes, writable.
    """

    __slots__ = ("_views", "memory")

    def __init__(self, size: int) -> None:
        raw = bytearray(size + ALIGNMENT)
        start = -ctypes.addressof(ctypes.c_char.from_buffer(raw)) % ALIGNMENT
        self.memory = memoryview(raw)[start : start + size]
        self._views: dict[Any, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.memory)

    def array(self, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> "NDArray[Any]":
        """The first bytes of the block as an array. Raises `InsufficientResources` when it does not fit."""
        import numpy as np  # late: who pools bytes needs none

        key = (shape[1:], dtype)
        whole = self._views.get(key)
        if whole is None:
            row = dtype.itemsize
            for size in shape[1:]:
                row *= size
            if not row:
                return np.empty(shape, dtype)
            rows = len(self.memory) // row
            whole = np.frombuffer(self.memory, dtype, (rows * row) // dtype.itemsize).reshape((rows, *shape[1:]))
            if len(self._views) >= 8:
                self._views.clear()
            self._views[key] = whole
        if shape[0] > len(whole):
            raise InsufficientResources(f"an array {list(shape)} of {dtype} does not fit in a block of {len(self.memory)} bytes")
        return whole[: shape[0]]


class MemoryPool:
    """Blocks of one size, made when first needed and kept for the next user. Safe to share between threads.

    Args:
        block_size: bytes of a block.
        max_blocks: most blocks in use at once, and most that are kept.
        debug: remember who took each block, for `leaks`; each `allocate` takes some 70 µs instead of less than 1.

    Attributes:
        hits: blocks given that had been used before.
        misses: blocks given that had to be made.
        refused: times that all blocks were in use.
    """

    def __init__(self, block_size: int, max_blocks: int, *, debug: bool = False) -> None:
        for name, value in (("block_size", block_size), ("max_blocks", max_blocks)):
            if value < 1:
                raise ConfigError(f"{name} of a memory pool is {value}", where=name, allowed="1 or more")
        self.block_size = block_size
        self.max_blocks = max_blocks
        self.hits = 0
        self.misses = 0
        self.refused = 0
        self._free: list[Block] = []
        self._used: dict[Block, str] = {}  # by whom, in debug mode; blocks are equal by identity
        self._debug = debug
        self._lock = threading.Lock()

    @property
    def in_use(self) -> int:
        """Blocks that have been given and not yet been given back."""
        return len(self._used)

    @property
    def bytes_held(self) -> int:
        """Bytes of all blocks, in use or kept."""
        return (len(self._used) + len(self._free)) * self.block_size

    @property
    def leaks(self) -> list[str]:
        """Who took the blocks that are out, in debug mode: the calls that led to each `allocate`, oldest block first.

        Where nobody should have one any more, those are the leaks."""
        with self._lock:
            return [by for by in self._used.values() if by]

    def try_allocate(self, *, zeroed: bool = False) -> Block | None:
        """A block, or None when all are in use."""
        by = _callers() if self._debug else ""
        block = self._take(by)
        if block is not None and zeroed:
            block.memory[:] = bytes(self.block_size)
        return block

    def _take(self, by: str) -> Block | None:
        with self._lock:
            if self._free:
                block = self._free.pop()
                self.hits += 1
            elif len(self._used) < self.max_blocks:
                block = Block(self.block_size)
                self.misses += 1
            else:
                self.refused += 1
                return None
            self._used[block] = by
            return block

    def allocate(self, *, zeroed: bool = False) -> Block:
        """A block, to be given back with `deallocate`. Raises `InsufficientResources` when all are in use.

        Args:
            zeroed: all its bytes are 0; else they are what its last user left.
        """
        block = self.try_allocate(zeroed=zeroed)
        if block is None:
            oldest = next(iter(self.leaks), "")
            taken = f", the oldest taken by {oldest}" if oldest else ""
            raise InsufficientResources(
                f"all {self.max_blocks} blocks of {self.block_size} bytes are in use{taken}",
                mend="give blocks back, or raise max_blocks",
            )
        return block

    def deallocate(self, block: Block) -> None:
        """Give a block back; its memory must not be used any more. Raises `RejectedError` for one that is not out."""
        with self._lock:
            if type(block) is not Block or block not in self._used:
                raise RejectedError("this block is not of this pool, or was given back before")
            del self._used[block]
            self._free.append(block)

    @contextmanager
    def block(self, *, zeroed: bool = False) -> Iterator[memoryview]:
        """The bytes of a block for the length of a `with`. Raises `InsufficientResources`."""
        block = self.allocate(zeroed=zeroed)
        try:
            yield block.memory
        finally:
            self.deallocate(block)

    @contextmanager
    def array(self, shape: tuple[int, ...], dtype: Any, *, zeroed: bool = False) -> "Iterator[NDArray[Any]]":
        """An array in a block for the length of a `with`. Raises `InsufficientResources`, also when it is too large.

        Args:
            shape: of one dimension at least.
            dtype: a numpy dtype or its name; numbers and bools, not strings.
            zeroed: all its numbers are 0; else they are what the block's last user left.
        """
        import numpy as np  # late: who pools bytes needs none

        try:
            kind = np.dtype(dtype)
        except TypeError as error:
            raise RejectedError(f"{dtype!r} is no dtype", mend='give one of numpy\'s, such as "float32"') from error
        if kind.hasobject or not shape or min(shape) < 0:
            raise RejectedError(f"a pool has no memory for an array {list(shape)} of {kind}")
        block = self.allocate()
        try:
            found = block.array(shape, kind)
            if zeroed:
                found[...] = 0  # the array and not the block, which may be much larger
            yield found
        finally:
            self.deallocate(block)

    def clear(self) -> None:
        """Give the memory of all blocks that are not in use back to the system."""
        with self._lock:
            self._free.clear()


def _callers() -> str:
    """The innermost calls outside of this module and of `with`, innermost first: `file:line function`."""
    inside = (__file__, contextlib.__file__)
    calls = [each for each in reversed(traceback.extract_stack(limit=_CALLS + 5)) if each.filename not in inside]
    return ", called by ".join(f"{each.filename}:{each.lineno} {each.name}" for each in calls[:_CALLS])
