"""Blocks are given, given back and used again; never twice at once, never more than the bound."""

import ctypes
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry import MemoryPool
from skerry.core.errors import ConfigError, InsufficientResources, RejectedError
from skerry.runtime.memory_pool import Block


def test_a_block_is_used_again() -> None:
    pool = MemoryPool(block_size=4096, max_blocks=2)
    with pool.block() as first:
        assert len(first) == 4096
        first[:3] = b"abc"
        address = ctypes.addressof(ctypes.c_char.from_buffer(first))
    with pool.block() as second:
        assert ctypes.addressof(ctypes.c_char.from_buffer(second)) == address
        assert bytes(second[:3]) == b"abc"
    assert (pool.hits, pool.misses, pool.in_use) == (1, 1, 0)


def test_what_the_last_user_left_is_cleared_where_that_is_asked_for() -> None:
    pool = MemoryPool(block_size=64, max_blocks=1)
    with pool.block() as memory:
        memory[:] = b"\xff" * 64
    with pool.array((2, 3), "uint8") as left:
        assert (left == 255).all()
    with pool.array((2, 3), "uint8", zeroed=True) as array:
        assert not array.any()
    with pool.block() as memory:
        assert bytes(memory) == bytes(6) + b"\xff" * 58
    with pool.block(zeroed=True) as memory:
        assert bytes(memory) == bytes(64)


def test_who_leaks_is_told_in_debug_mode() -> None:
    pool, silent = MemoryPool(16, 2, debug=True), MemoryPool(16, 2)

    def forgetful() -> None:
        with pool.array((2,), "float32"):
            pass
        pool.allocate()

    def tidy() -> None:
        with pool.block():
            silent.allocate()

    forgetful()
    tidy()
    assert silent.leaks == []
    (leak,) = pool.leaks
    assert leak.startswith(f"{__file__}:")
    assert " forgetful, called by " in leak
    assert " test_who_leaks_is_told_in_debug_mode" in leak
    with pool.block(), pytest.raises(InsufficientResources, match=r"are in use, the oldest taken by .* forgetful"):
        pool.allocate()


def test_blocks_are_aligned_to_a_cache_line() -> None:
    for size in (1, 63, 64, 1000):
        block = Block(size)
        assert len(block) == size
        assert ctypes.addressof(ctypes.c_char.from_buffer(block.memory)) % 64 == 0


def test_more_than_max_blocks_are_refused_in_one_sentence() -> None:
    pool = MemoryPool(16, 2)
    blocks = [pool.allocate(), pool.allocate()]
    assert blocks[0] is not blocks[1]
    with pytest.raises(InsufficientResources, match="all 2 blocks of 16 bytes are in use; give blocks back"):
        pool.allocate()
    assert pool.try_allocate() is None
    assert pool.refused == 2
    pool.deallocate(blocks[0])
    assert pool.allocate() is blocks[0]


def test_a_block_is_given_back_once_and_to_its_own_pool() -> None:
    pool, other = MemoryPool(16, 2), MemoryPool(16, 2)
    block = pool.allocate()
    with pytest.raises(RejectedError, match="not of this pool"):
        other.deallocate(block)
    pool.deallocate(block)
    with pytest.raises(RejectedError, match="given back before"):
        pool.deallocate(block)
    assert pool.in_use == 0


def test_a_block_comes_back_when_its_user_fails() -> None:
    pool = MemoryPool(16, 1)
    with pytest.raises(ZeroDivisionError), pool.block() as memory:
        memory[0] = 1 // 0
    assert pool.in_use == 0


def test_arrays_of_any_number_type_live_in_blocks() -> None:
    pool = MemoryPool(4096, 1)
    with pool.array((4, 8), "float32") as array:
        assert (array.shape, array.dtype) == ((4, 8), np.dtype("float32"))
        array[:] = 1.5
        first = array.__array_interface__["data"][0]
    for dtype in ("float64", "int8", "bool", "complex64"):
        with pool.array((2, 3), dtype) as array:
            assert array.flags.c_contiguous
            assert array.flags.writeable
            assert array.__array_interface__["data"][0] == first
    assert (pool.hits, pool.misses) == (4, 1)


def test_an_array_of_any_number_of_rows_is_the_same_memory() -> None:
    block = Block(1024)
    large, small = block.array((16, 4), np.dtype("float32")), block.array((3, 4), np.dtype("float32"))
    large[2] = 7
    assert small[2].tolist() == [7, 7, 7, 7]
    assert block.array((5, 0), np.dtype("float32")).shape == (5, 0)


def test_what_does_not_fit_is_refused_and_the_block_comes_back() -> None:
    pool = MemoryPool(64, 1)
    told = r"\[5, 4\] of float32 does not fit in a block of 64 bytes"
    with pytest.raises(InsufficientResources, match=told), pool.array((5, 4), "float32"):
        pass
    for shape, dtype in (((2,), object), ((), "float32"), ((-1,), "float32"), ((2, -3), "float32")):
        with pytest.raises(RejectedError, match="has no memory for"), pool.array(shape, dtype):
            pass
    assert pool.in_use == 0
    with pool.array((4, 4), "float32") as array:
        assert array.size == 16


def test_sizes_must_make_sense() -> None:
    with pytest.raises(ConfigError, match="block_size of a memory pool is 0"):
        MemoryPool(0, 1)
    with pytest.raises(ConfigError, match="max_blocks of a memory pool is -1"):
        MemoryPool(1, -1)


def test_memory_is_held_until_it_is_cleared() -> None:
    pool = MemoryPool(100, 4)
    blocks = [pool.allocate() for _ in range(3)]
    for block in blocks[:2]:
        pool.deallocate(block)
    assert pool.bytes_held == 300
    pool.clear()
    assert pool.bytes_held == 100
    pool.deallocate(blocks[2])
    assert pool.bytes_held == 100


@given(st.lists(st.booleans(), max_size=60))
def test_no_block_is_out_twice(steps: list[bool]) -> None:
    pool = MemoryPool(8, 3)
    out: list[Block] = []
    for give in steps:
        if give:
            block = pool.try_allocate()
            assert (block is None) == (len(out) == 3)
            if block is not None:
                assert all(block is not other for other in out)
                out.append(block)
        elif out:
            pool.deallocate(out.pop(0))
        assert pool.in_use == len(out)
    assert pool.misses <= 3


def test_threads_share_a_pool() -> None:
    pool = MemoryPool(8, 4)
    torn = []

    def work(number: int) -> None:
        for _ in range(500):
            with pool.block() as memory:
                memory[0] = number
                if memory[0] != number:
                    torn.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torn == []
    assert pool.in_use == 0
    assert pool.hits + pool.misses == 2000
    assert pool.misses <= 4


def test_what_is_no_block_or_dtype_is_refused() -> None:
    pool = MemoryPool(64, 1)
    with pytest.raises(RejectedError, match="not of this pool"):
        pool.deallocate(bytearray(64))  # type: ignore[arg-type]  # what a caller without types may do
    with pytest.raises(RejectedError, match="is no dtype"), pool.array((2,), "nope"):
        pass
    assert pool.in_use == 0
