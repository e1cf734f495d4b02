"""Kills and damage: what was acknowledged is there, batches are whole, and what cannot be read is said and saved."""

import itertools
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from skerry.core.clock import ManualClock
from skerry.core.errors import CorruptError
from skerry.store import StorageConfig, SyncKeyValueStore
from tests.store.aftermath import WRITER, check_store, kill_a_writer

KEYS = st.sampled_from([b"a", b"aa", b"ab", b"b\xff", b"c"])
VALUES = st.binary(max_size=20)
TABLES = st.sampled_from(["kv", "other"])


def test_kills_at_any_moment_lose_and_tear_nothing(tmp_path: Path) -> None:
    chance = random.Random(4)
    last, said = 0, b""
    for _ in range(4):
        said += kill_a_writer(tmp_path / "kv", chance.uniform(0.05, 0.6))
        last = check_store(tmp_path / "kv", said)
    assert last > 5


class Model(RuleBasedStateMachine):
    """The store beside a dictionary, with closing, reopening, crashes, flushing and compacting in between."""

    directory: Path
    numbers = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock(1_700_000_000_000_000)
        self.path = self.directory / f"{next(self.numbers)}"
        self.kv = self.opened()
        self.model: dict[tuple[str, bytes], tuple[bytes, int | None]] = {}

    def opened(self) -> SyncKeyValueStore:
        return SyncKeyValueStore(StorageConfig(path=self.path, max_size="64MiB", write_buffer="1MiB"), self.clock)

    def held(self, table: str, key: bytes) -> bytes | None:
        value, ends = self.model.get((table, key), (None, None))
        return None if ends is not None and self.clock.now() >= ends else value

    @rule(table=TABLES, key=KEYS, value=VALUES, ttl=st.none() | st.integers(1, 5))
    def set(self, table: str, key: bytes, value: bytes, ttl: int | None) -> None:
        self.kv.set(key, value, table=table, ttl=ttl, durable=False)
        self.model[table, key] = value, None if ttl is None else self.clock.now() + ttl * 1_000_000

    @rule(table=TABLES, key=KEYS)
    def delete(self, table: str, key: bytes) -> None:
        self.kv.delete(key, table=table, durable=False)
        self.model.pop((table, key), None)

    @rule(table=TABLES, key=KEYS, value=st.none() | VALUES, guess=st.none() | VALUES, right=st.booleans())
    def compare_and_set(self, table: str, key: bytes, value: bytes | None, guess: bytes | None, right: bool) -> None:
        held = self.held(table, key)
        expected = held if right else guess
        assert self.kv.compare_and_set(key, expected, value, table=table) == (expected == held)
        if expected == held:
            if value is None:
                self.model.pop((table, key), None)
            else:
                self.model[table, key] = value, None

    @rule(changes=st.lists(st.tuples(TABLES, KEYS, st.none() | VALUES), max_size=6), fail=st.booleans())
    def batch(self, changes: list[tuple[str, bytes, bytes | None]], fail: bool) -> None:
        try:
            with self.kv.batch(durable=False) as batch:
                for table, key, value in changes:
                    if value is None:
                        batch.delete(key, table=table)
                    else:
                        batch.set(key, value, table=table)
                if fail:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            return
        for table, key, value in changes:
            if value is None:
                self.model.pop((table, key), None)
            else:
                self.model[table, key] = value, None

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds * 1_000_000)

    @rule()
    def reopen(self) -> None:
        self.kv.close()
        self.kv = self.opened()

    @rule()
    def crash(self) -> None:
        # what is in the files now is what kill -9 leaves
        left = self.directory / f"{next(self.numbers)}"
        shutil.copytree(self.path, left)
        self.kv.close()
        self.path = left
        self.kv = self.opened()

    @precondition(lambda self: self.model)
    @rule()
    def compact(self) -> None:
        self.kv.compact()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "kv"):
            return
        for table in ("kv", "other"):
            wanted = sorted((key, held) for at, key in self.model if at == table and (held := self.held(table, key)) is not None)
            assert list(self.kv.scan(table=table)) == wanted
            assert list(self.kv.scan(b"a", table=table)) == [row for row in wanted if row[0].startswith(b"a")]

    def teardown(self) -> None:
        if hasattr(self, "kv"):
            self.kv.close()


def test_the_store_is_a_dictionary_that_lasts(tmp_path: Path) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    Model.directory = tmp_path
    run_state_machine_as_test(Model, settings=settings(max_examples=12, stateful_step_count=20, deadline=None))


def test_a_log_cut_short_keeps_what_came_before(tmp_path: Path) -> None:
    config = StorageConfig(path=tmp_path / "kv")
    with SyncKeyValueStore(config) as kv:
        pass
    writer = subprocess.Popen([sys.executable, WRITER, tmp_path / "kv"], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for line in writer.stdout:
        if line == b"batch 20\n":
            break
    writer.kill()
    writer.communicate()
    log = max((tmp_path / "kv/db").glob("*.log"), key=lambda path: path.stat().st_size)
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) * 2 // 3])
    last = 0
    with SyncKeyValueStore(config) as kv:
        last = int(kv.get(b"left") or 0)
        assert int(kv.get(b"right", table="other") or 0) == last
        assert [int(key[7:]) for key, _ in kv.scan(b"single/")][:last] == list(range(1, last + 1))
        kv.set(b"after", b"1")
    assert last < 21
    with SyncKeyValueStore(config) as kv:
        assert kv.get(b"after") == b"1"


def test_a_flipped_bit_in_a_file_is_found_and_named(tmp_path: Path) -> None:
    config = StorageConfig(path=tmp_path / "kv", compression="none")
    with SyncKeyValueStore(config) as kv:
        for number in range(500):
            kv.set(b"%04d" % number, b"v" * 500, durable=False)
        kv.compact()
    file = max((tmp_path / "kv/db").glob("*.sst"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(data)
    with SyncKeyValueStore(config) as kv, pytest.raises(CorruptError, match="checksum") as caught:
        list(kv.scan())
    assert file.name in str(caught.value)
    assert "repair" in str(caught.value)
