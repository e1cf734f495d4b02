"""A memory pool under any sequence of calls: blocks are never shared, never lost, and counted; what is written stays."""

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from skerry.core.errors import InsufficientResources, RejectedError
from skerry.runtime.memory_pool import Block, MemoryPool

few = settings(max_examples=30, deadline=None)

MOST, SIZE = 4, 96


class PoolMachine(RuleBasedStateMachine):
    """Allocates, gives back, clears and writes, beside a plain account of what should be."""

    out = Bundle("out")
    returned = Bundle("returned")

    def __init__(self) -> None:
        super().__init__()
        self.pool = MemoryPool(SIZE, MOST)
        self.marks: dict[int, int] = {}  # what the owner of a block wrote in it
        self.owned: dict[int, Block] = {}
        self.given = self.refused = self.made = self.kept = 0

    @precondition(lambda self: len(self.owned) < MOST)
    @rule(target=out, mark=st.integers(0, 255))
    def allocate(self, mark: int) -> Block:
        block = self.pool.allocate()
        assert id(block) not in self.owned, "nobody else has it"
        self.given += 1
        if self.kept:
            self.kept -= 1
        else:
            self.made += 1
        block.memory[:] = bytes([mark]) * SIZE
        self.owned[id(block)], self.marks[id(block)] = block, mark
        return block

    @precondition(lambda self: len(self.owned) == MOST)
    @rule(strict=st.booleans())
    def allocate_too_much(self, strict: bool) -> None:
        self.refused += 1
        if strict:
            with pytest.raises(InsufficientResources, match=f"all {MOST} blocks of {SIZE} bytes are in use"):
                self.pool.allocate()
        else:
            assert self.pool.try_allocate() is None

    @rule(target=returned, block=consumes(out))
    def give_back(self, block: Block) -> Block:
        self.pool.deallocate(block)
        del self.owned[id(block)], self.marks[id(block)]
        self.kept += 1
        return block

    @rule(block=consumes(returned))
    def give_back_again(self, block: Block) -> None:
        if id(block) in self.owned:
            return  # it has been given to somebody since, who may give it back
        with pytest.raises(RejectedError, match="not of this pool, or was given back before"):
            self.pool.deallocate(block)

    @rule()
    def give_back_a_strangers(self) -> None:
        with pytest.raises(RejectedError, match="not of this pool"):
            self.pool.deallocate(MemoryPool(SIZE, 1).allocate())

    @rule()
    def clear(self) -> None:
        self.pool.clear()
        self.kept = 0

    @rule(rows=st.integers(1, 30), columns=st.integers(1, 8))
    def borrow_an_array(self, rows: int, columns: int) -> None:
        if len(self.owned) == MOST:
            self.refused += 1
            with pytest.raises(InsufficientResources), self.pool.array((rows, columns), "float32"):
                pass
            return
        self.given += 1
        if not self.kept:
            self.made, self.kept = self.made + 1, 1
        if rows * columns * 4 > SIZE:
            with pytest.raises(InsufficientResources, match="does not fit"), self.pool.array((rows, columns), "float32"):
                pass
            return
        with self.pool.array((rows, columns), "float32") as array:
            array[:] = 7
            assert array.shape == (rows, columns)

    @invariant()
    def what_was_written_stays(self) -> None:
        for name, block in self.owned.items():
            assert bytes(block.memory) == bytes([self.marks[name]]) * SIZE

    @invariant()
    def the_books_are_right(self) -> None:
        pool = self.pool
        assert pool.in_use == len(self.owned) <= MOST
        assert (pool.hits + pool.misses, pool.misses, pool.refused) == (self.given, self.made, self.refused)
        assert pool.bytes_held == (len(self.owned) + self.kept) * SIZE <= MOST * SIZE


PoolMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestPool = PoolMachine.TestCase

DTYPES = st.sampled_from(["float16", "float32", "float64", "int8", "int64", "bool", "complex128"]).map(np.dtype)
SHAPES = st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(1, 3)).flatmap(
    lambda sizes: st.integers(1, 3).map(lambda rank: sizes[:rank])
)


@few
@given(st.integers(1, 600), st.lists(st.tuples(SHAPES, DTYPES), min_size=1, max_size=12))
def test_any_array_that_fits_is_the_start_of_the_block(size: int, wanted: list[tuple[tuple[int, ...], Any]]) -> None:
    block = Block(size)
    start = np.frombuffer(block.memory, np.uint8).__array_interface__["data"][0]
    for shape, dtype in wanted:
        needed = int(np.prod(shape)) * dtype.itemsize
        if needed > size:
            with pytest.raises(InsufficientResources, match=f"does not fit in a block of {size} bytes"):
                block.array(shape, dtype)
            continue
        array = block.array(shape, dtype)
        assert (array.shape, array.dtype) == (shape, dtype)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        if needed:
            assert array.__array_interface__["data"][0] == start
            array[:] = 1
            assert bytes(block.memory[:needed]) == np.ones(shape, dtype).tobytes()


@few
@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=20))
def test_arrays_of_many_shapes_keep_few_views(shapes: list[tuple[int, int]]) -> None:
    block = Block(256)
    for shape in shapes:
        array = block.array(shape, np.dtype("float32"))
        array[:] = np.arange(shape[0] * shape[1]).reshape(shape)
        assert array.tolist() == np.arange(shape[0] * shape[1]).reshape(shape).tolist()
    assert len(block._views) <= 8


def test_threads_never_see_each_others_numbers() -> None:
    pool, wrong = MemoryPool(64, 3), []
    refused = [0] * 4

    def work(number: int) -> None:
        for turn in range(300):
            try:
                with pool.array((4, 4), "float32") as array:
                    array[:] = number * 1000 + turn
                    if not (array == number * 1000 + turn).all():
                        wrong.append((number, turn))
            except InsufficientResources:
                refused[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert pool.in_use == 0
    assert pool.refused == sum(refused)
    assert pool.hits + pool.misses == 4 * 300 - sum(refused)
    assert pool.bytes_held <= 3 * 64
