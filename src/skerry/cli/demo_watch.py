"""Watches the demonstration: a screen with keys on a terminal, a line now and then elsewhere."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

from skerry.cli.demo_screen import Line, addresses, screen
from skerry.cli.session import Session

if TYPE_CHECKING:
    from skerry.demo import Demo, DemoState

LOAD_S = 8.0
_SAY_EVERY_S = 5.0


async def watch(here: Session, running: "Demo", shown: bool) -> "DemoState | None":
    """Draw states until the demo ends, which Ctrl-C, SIGTERM or `q` have it do; the last one."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.stop)
    last: DemoState | None = None
    try:
        async with aclosing(running.states()) as states:
            async for state in _drawn(running, states) if shown else _told(here, states):
                last = state
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return last


async def _told(here: Session, states: "AsyncIterator[DemoState]") -> "AsyncIterator[DemoState]":
    """Now and then a line on stderr, since stdout is the summary's."""
    said, sentence = -_SAY_EVERY_S, ""
    async for state in states:
        if said < 0:
            for line in addresses(state):
                here.note(line.text)
        if state.sentence != sentence or state.seconds - said >= _SAY_EVERY_S:
            said, sentence = state.seconds, state.sentence
            here.note(f"{state.seconds:6.1f} s  {state.messages_per_s:,.0f} messages/s  {sentence}")
        yield state


async def _drawn(running: "Demo", states: "AsyncIterator[DemoState]") -> "AsyncIterator[DemoState]":
    from rich.console import Console, Group  # late: it takes a tenth of a second
    from rich.live import Live
    from rich.text import Text

    def drawn(lines: list[Line]) -> Group:
        return Group(*[Text(line.text, style=line.style, overflow="ellipsis", no_wrap=True) for line in lines])

    def pressed(key: str) -> None:
        if key == "l":
            running.load.start(LOAD_S)
        elif key in ("q", "\x03"):
            running.stop()

    first = True
    with _keys(pressed), Live(console=Console(highlight=False), auto_refresh=False, transient=True) as live:
        async for state in states:
            if first:
                # above the moving part, unbroken, so that it can be copied
                for line in addresses(state):
                    live.console.print(line.text, soft_wrap=True, markup=False)
                first = False
            live.update(drawn(screen(state)), refresh=True)
            yield state


@contextmanager
def _keys(pressed: Callable[[str], None]) -> Iterator[None]:
    """Single keys of the terminal, without Enter, until the end of the block."""
    if not sys.stdin.isatty():
        yield
        return
    import termios  # late: only a terminal needs them
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    loop = asyncio.get_running_loop()

    def read() -> None:
        typed = os.read(descriptor, 64).decode(errors="ignore")
        if not typed:
            loop.remove_reader(descriptor)
        for key in typed:
            pressed(key)

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
