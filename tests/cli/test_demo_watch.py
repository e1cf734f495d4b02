"""Watching the demonstration: how it ends, what its keys do, and that it leaves terminal and signals as they were."""

import asyncio
import os
import pty
import signal
import sys
import termios
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skerry.cli.demo_watch import watch
from skerry.cli.session import Session
from tests.cli.test_demo_screen import state

pytestmark = pytest.mark.asyncio


class Load:
    """Counts what a key started."""

    def __init__(self) -> None:
        self.started: list[float] = []

    def start(self, seconds: float) -> None:
        self.started.append(seconds)


class FakeDemo:
    """States without a node: so many, quickly, or for ever; `after` is called with the number of each."""

    def __init__(self, count: int | None = None, after: Any = None) -> None:
        self.load = Load()
        self.closed = False
        self._count = count
        self._after = after or (lambda number: None)
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    async def states(self) -> AsyncIterator[Any]:
        number = 0
        try:
            while not self._stopped and (self._count is None or number < self._count):
                number += 1
                yield state(seconds=number * 3.0, sentence=f"sentence {number // 2}")
                self._after(number)
                await asyncio.sleep(0.01)
        finally:
            self.closed = True


async def run(demo: FakeDemo, shown: bool = False) -> Any:
    given: Any = demo
    return await asyncio.wait_for(watch(Session(), given, shown), 10)


async def test_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    demo = FakeDemo(3)
    assert (await run(demo)).seconds == 9.0
    assert demo.closed
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0] == "MQTT broker  127.0.0.1:1"
    assert lines[4:] == ["   3.0 s  70 messages/s  sentence 0", "   6.0 s  70 messages/s  sentence 1"]


async def test_no_state_at_all() -> None:
    assert await run(FakeDemo(0)) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_with_the_last_state(number: signal.Signals) -> None:
    demo = FakeDemo(after=lambda at: os.kill(os.getpid(), number) if at == 4 else None)
    assert (await run(demo)).seconds >= 12.0
    assert demo.closed
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)


async def test_a_failure_inside_comes_out() -> None:
    demo = FakeDemo(after=lambda at: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await run(demo)
    assert demo.closed


async def test_keys_and_the_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    keyboard, terminal = pty.openpty()
    with os.fdopen(terminal, "r") as typed, os.fdopen(keyboard, "wb", buffering=0) as hand:
        monkeypatch.setattr(sys, "stdin", typed)
        before = termios.tcgetattr(terminal)
        pressed = {3: b"xl", 8: b"q"}
        demo = FakeDemo(after=lambda at: hand.write(pressed[at]) if at in pressed else None)
        assert (await run(demo, shown=True)).seconds >= 24.0
        assert demo.load.started == [8.0]
        assert termios.tcgetattr(terminal) == before
    assert "send a message of your own" in capsys.readouterr().out
