"""A child that reports, over a real one: told what to do, heard, ended when it hangs or grows, started again when it dies."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from skerry.core import log
from skerry.core.clock import SystemClock
from skerry.core.service import cancel_and_wait
from skerry.runtime import ReportingChild, Role
from tests.fixtures.nats import until

pytestmark = pytest.mark.asyncio
CHILD = """\
import json, sys, time
given = json.loads(sys.stdin.readline())
lines = []
for line in sys.stdin:
    lines.append(json.loads(line)["word"])
    if lines[-1] == "hang":
        time.sleep(60)
    if lines[-1] == "grow":
        held = bytearray(300 << 20)
        time.sleep(60)
    print(json.dumps({"name": given["name"], "words": lines}), flush=True)
"""


class Task(msgspec.Struct, frozen=True):
    name: str


class Word(msgspec.Struct, frozen=True):
    word: str


class Heard(msgspec.Struct):
    name: str = ""
    words: list[str] = []


class Echo(ReportingChild[Task, Heard]):
    """Greets with one word, and keeps all reports."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(Role("echo", "echo_child", 200 << 20, nice=1), Heard, run_dir, SystemClock(), log.get("test"))
        self.all: list[Heard] = []

    def greeting(self) -> list[msgspec.Struct]:
        return [Word("hello")]

    def heard(self, report: Heard) -> None:
        self.all.append(report)


@asynccontextmanager
async def echo(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Echo]:
    (folder / "echo_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    found = Echo(folder / "run")
    running = asyncio.create_task(found.run())
    try:
        yield found
    finally:
        await cancel_and_wait(running)
        assert found.pid is None


async def test_it_is_told_and_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with echo(tmp_path, monkeypatch) as found:
        await found.tell(Word("to nobody"))
        found.assign(Task("a"))
        await asyncio.wait_for(found.ready.wait(), 20)
        await found.tell(Word("more"))
        await until(lambda: found.report == Heard("a", ["hello", "more"]), 20)
        assert found.all[0] == Heard("a", ["hello"])
        first = found.pid
        found.assign(Task("a"))
        assert found.report is not None
        found.assign(Task("b"))
        assert found.report is None
        await until(lambda: found.report == Heard("b", ["hello"]), 20)
        assert found.pid != first
        found.assign(None)
        await until(lambda: found.pid is None, 20)
        assert found.restarts.total == 0


async def test_one_that_dies_hangs_or_grows_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with echo(tmp_path, monkeypatch) as found:
        found.assign(Task("a"))
        await asyncio.wait_for(found.ready.wait(), 20)
        assert found.pid is not None
        os.kill(found.pid, signal.SIGKILL)
        await until(lambda: found.restarts.total == 1 and found.ready.is_set(), 20)
        assert found.last_words == "ended by SIGKILL"
        monkeypatch.setattr(Echo, "stall_s", 1.0)
        await found.tell(Word("again"))
        await found.tell(Word("hang"))
        await until(lambda: found.last_words == "it said nothing", 20)
        monkeypatch.setattr(Echo, "stall_s", 30.0)
        await asyncio.wait_for(found.ready.wait(), 20)
        await found.tell(Word("grow"))
        await until(lambda: "MiB" in found.last_words, 30)
