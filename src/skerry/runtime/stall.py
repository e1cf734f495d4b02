"""Watches an event loop: how late it runs what is due, and, when it is held up, which line of code does that."""

import asyncio
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from types import FrameType

import msgspec

from skerry.core import log
from skerry.core.errors import ConfigError

KEPT = 16
BEATS = 64  # lags that are remembered
_DEPTH = 12  # frames of a stack that are told
_log = log.get("runtime")


class Stall(msgspec.Struct):
    """A loop that was held up: seconds so far, and the stack that held it up, innermost call last.

    Attributes:
        stack: empty where the interpreter itself was held up: native code that keeps the interpreter lock, or no CPU time.
    """

    seconds: float
    stack: str


class LoopWatch:
    """Watches the event loop of the thread that calls `start`.

    The loop notes the time several times within `stall_s`, and a thread looks whether it still does. A process that was asleep as
    a whole is not blamed on the loop: then the thread was late too.

    Args:
        stall_s: seconds for which the loop may do one thing.
        monotonic: where seconds come from.
        told: called with each stall as soon as it is seen, in the watching thread; by default it is logged.
    """

    def __init__(self, stall_s: float, monotonic: Callable[[], float], told: Callable[[Stall], None] | None = None) -> None:
        if not 0.01 <= stall_s <= 3600:
            raise ConfigError(f"{stall_s} is no time for a stall", where="stall", allowed="10ms to 1h")
        self.stalls: deque[Stall] = deque(maxlen=KEPT)
        self.count = 0
        self._every = stall_s / 4
        self._stall_s = stall_s
        self._monotonic = monotonic
        self._told = told or _tell
        self._lags: deque[float] = deque(maxlen=BEATS)
        self._beat = monotonic()
        self._current: Stall | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lag_s(self) -> float:
        """How late the loop was at most, over the last 64 looks: what was due waited for so long."""
        return max(self._lags, default=0.0)

    def start(self) -> None:
        """Begin to watch."""
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._stop.clear()
        self._due = self._beat = self._monotonic()
        self._note()
        self._thread = threading.Thread(target=self._watch, name="loop-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer. Call it on the loop."""
        self._stop.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join(1.0)

    def _note(self) -> None:
        """On the loop: it lives."""
        now = self._monotonic()
        lag = max(0.0, now - self._due)
        self._lags.append(lag)
        current, self._current = self._current, None
        if current is not None:
            current.seconds = lag
        elif lag > self._stall_s:
            self._saw(Stall(lag, ""))
        self._beat = now
        past = self._loop.time() % self._every
        wait = self._every - past if past < self._every / 2 else 2 * self._every - past  # with all that look: `core.service.beat`
        self._due = now + wait
        self._timer = self._loop.call_later(wait, self._note)

    def _watch(self) -> None:
        """In a thread of its own."""
        looked = self._monotonic()
        while not self._stop.wait(self._every):
            now = self._monotonic()
            late, looked = now - looked > 2 * self._every, now
            held = now - self._beat
            if late or self._current is not None or held <= self._stall_s:
                continue
            frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - the only way to another thread's stack
            stall = Stall(held, stack_of(frame))
            del frame
            self._current = stall
            self._saw(stall)

    def _saw(self, stall: Stall) -> None:
        self.count += 1
        self.stalls.append(stall)
        self._told(stall)


def stack_of(frame: FrameType | None) -> str:
    """The innermost calls of a frame, outermost first: `file:line function: code` each, in lines of their own."""
    calls = traceback.extract_stack(frame)[-_DEPTH:] if frame is not None else []
    return "\n".join(f"{call.filename}:{call.lineno} {call.name}: {call.line}" for call in calls)


def _tell(stall: Stall) -> None:
    last = stall.stack.rpartition("\n")[2] or "native code, or no CPU time for the process"
    _log.warning(f"the event loop has been held up for {stall.seconds:.2f} s by {last}", stack=stall.stack)
