"""`skerry top`: the node as it works, drawn again each second until `q`."""

import os
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from skerry.cli.session import Paper, Session, clean, number, session
from skerry.core.clock import Clock, SystemClock
from skerry.core.errors import SkerryError
from skerry.core.units import show_size

Row = Mapping[str, Any]
BARS = "▁▂▃▄▅▆▇█"
KEPT = 60
WIDE = 24
_WIDE = 100_000
_QUIT = frozenset("q\x03\x04")
Keys = Callable[[float], str]


class History:
    """What status answers say over time: the figures that are rates, and the last minute of each for its sparkline. Pure."""

    def __init__(self) -> None:
        self.rates: dict[str, deque[float]] = {}
        self.cpu: dict[str, float] = {}
        self._before: dict[str, tuple[float, float]] = {}

    def take(self, status: Row, now: float) -> None:
        """One more answer, at a time in seconds."""
        rates = {}
        for row in status.get("pipelines") or ():
            ledger = row.get("ledger") or {}
            rate = self._rate(f"pipeline {row.get('name')}", ledger.get("received", 0), now)
            rates[str(row.get("name"))] = float(row.get("rate") or 0.0) if rate is None else rate
        self.rates = {name: self._longer(name, rate) for name, rate in rates.items()}
        self.cpu = {}
        for row in status.get("processes") or ():
            rate = self._rate(f"process {row.get('name')} {row.get('pid')}", row.get("cpu_s", 0.0), now)
            self.cpu[str(row.get("name"))] = 0.0 if rate is None else rate
        self._before = {name: seen for name, seen in self._before.items() if seen[0] == now}

    def _longer(self, name: str, rate: float) -> deque[float]:
        kept = self.rates.get(name, deque(maxlen=KEPT))
        kept.append(rate)
        return kept

    def _rate(self, name: str, count: float, now: float) -> float | None:
        """By how much a counter has grown a second; None where it is new."""
        before = self._before.get(name)
        self._before[name] = (now, count)
        if before is None or now <= before[0]:
            return None
        return max(0.0, count - before[1]) / (now - before[0])


def sparkline(values: Sequence[float], width: int = WIDE) -> str:
    """The last values as bars, from zero to the greatest of them."""
    shown = list(values)[-width:]
    most = max(shown, default=0.0)
    return "".join(BARS[min(len(BARS) - 1, int(value / most * len(BARS)))] if most > 0 else BARS[0] for value in shown)


def screen(status: Row, history: History, width: int = 100) -> list[str]:
    """The lines of one picture, none longer than the terminal is wide."""
    ready = "ready" if status.get("ready") else f"NOT READY: {clean(status.get('reason') or '')}"
    ratio = status.get("uptime_ratio")
    up = f", up {100 * ratio:.3f} %" if isinstance(ratio, int | float) else ""
    lines = [f"{clean(status.get('node'))} at {clean(status.get('site'))}, skerry {clean(status.get('version'))}: {ready}{up}"]
    lines += [f"warning: {clean(warning)}" for warning in status.get("warnings") or ()][:3]
    lines += ["", *_pipelines(status.get("pipelines") or (), history), "", *_processes(status.get("processes") or (), history)]
    promises = status.get("promises") or {}
    sentences = [f"{name}: {clean(each.get('sentence'))}" for name, each in promises.items() if isinstance(each, Mapping)]
    lines += ["", *sentences, "", "q: end"]
    return [line if len(line) <= width else line[: max(0, width - 1)] + "…" for line in lines]


def _pipelines(rows: Sequence[Row], history: History) -> list[str]:
    if not rows:
        return ["no pipelines"]
    head = f"{'PIPELINE':20} {'STATE':9}{'RATE/S':>10}{'LAG':>10}{'P50 MS':>9}{'P99 MS':>9}  LAST MINUTE"
    return [head, *[_pipeline(row, history) for row in rows]]


def _pipeline(row: Row, history: History) -> str:
    rates = history.rates.get(str(row.get("name")), deque([0.0]))
    latency = row.get("latency_ms") or {}
    return (
        f"{clean(row.get('name')):20.20} {clean(row.get('state')):9.9}{number(rates[-1], 1):>10}{number(row.get('lag')):>10}"
        f"{number(latency.get('p50'), 1):>9}{number(latency.get('p99'), 1):>9}  {sparkline(rates)}"
    )


def _processes(rows: Sequence[Row], history: History) -> list[str]:
    head = f"{'PROCESS':20} {'PID':>9}{'CPU %':>10}{'MEMORY':>12}{'PEAK':>12}{'RESTARTS':>10}"
    return [head, *[_process(row, history) for row in rows]]


def _process(row: Row, history: History) -> str:
    cpu = 100 * history.cpu.get(str(row.get("name")), 0.0)
    memory, peak = (show_size(row.get(name) or 0) for name in ("memory", "peak"))
    last = row.get("last") or {}
    words = f"  {clean(last['words'])}" if last.get("words") else ""
    state = "  quarantined:" if row.get("quarantined") else ""
    name, pid, restarts = clean(row.get("name")), clean(row.get("pid")), number(row.get("restarts"))
    return f"{name:20.20} {pid:>9}{cpu:>10.1f}{memory:>12}{peak:>12}{restarts:>10}{state}{words}"


def watch(
    ask: Callable[[], Row], draw: Callable[[list[str]], None], keys: Keys, clock: Clock, every: float, width: Callable[[], int]
) -> None:
    """Ask, draw and wait for a key, until one ends it. A node that does not answer is said, and asked again.

    Args:
        keys: waits so many seconds at most, and answers what was typed.
    """
    history = History()
    while True:
        try:
            status = ask()
            history.take(status, clock.monotonic())
            lines = screen(status, history, width())
        except SkerryError as error:
            lines = [clean(error), "", "q: end"]
        draw(lines)
        if _QUIT & set(keys(every)):
            return


@contextmanager
def _terminal() -> Iterator[Keys]:
    """Single keys of the terminal, without Enter, until the end of the block."""
    import termios  # late: only a terminal needs them
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def keys(seconds: float) -> str:
        if not select.select([descriptor], [], [], seconds)[0]:
            return ""
        return os.read(descriptor, 64).decode(errors="ignore") or "q"

    tty.setcbreak(descriptor)
    try:
        yield keys
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _live(here: Session, every: float) -> None:
    from rich.console import Console  # late: it takes a tenth of a second
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    client = here.client()
    with _terminal() as keys, Live(console=console, screen=True, auto_refresh=False) as live:

        def draw(lines: list[str]) -> None:
            shown = lines[: max(1, console.size.height)]
            live.update(Text("\n".join(shown), no_wrap=True, overflow="crop"), refresh=True)

        watch(lambda: client.get("/api/v1/node"), draw, keys, SystemClock(), every, lambda: console.size.width)


def top(
    context: typer.Context,
    every: Annotated[float, typer.Option(min=0.2, max=60.0, help="Seconds from one picture to the next.")] = 1.0,
) -> None:
    """Watch the node work: pipelines, rates, lag, latency, CPU and memory by process. Without a terminal, one picture."""
    here = session(context)
    if sys.stdin.isatty() and sys.stdout.isatty() and not here.json:
        _live(here, every)
        return
    found = here.client().get("/api/v1/node")
    history = History()
    history.take(found, SystemClock().monotonic())

    def draw(paper: Paper) -> None:
        for line in screen(found, history, _WIDE):
            paper.line(line)

    here.show(found, draw)
