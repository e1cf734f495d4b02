"""Child processes: they die with their parent, are told apart from others of the same pid, and leave their last words."""

import asyncio
import contextlib
import ctypes
import os
import re
import resource
import signal
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import psutil

from skerry.core.service import beat

PR_SET_PDEATHSIG = 1
TAIL_LINES = 20
LINE_LIMIT = 64 * 1024 * 1024
WATCH_S = 0.25
LEAST_WATCH_S = 0.02
FASTEST = 2 * 1024 * 1024 * 1024
PEAK_S = 1.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_prctl = ctypes.CDLL(None, use_errno=True).prctl


class ChildSpec(msgspec.Struct, frozen=True):
    """What to start.

    Attributes:
        name: names the role in records and messages.
        run_dir: where the record `<name>.pid` is kept, so that a later parent knows a left-over.
        pipes: give it a stdin to write lines to and a stdout to read lines from; else both are /dev/null.
        memory_limit: bytes of data it may ask the kernel for (RLIMIT_DATA); 0: no limit.
        death_signal: what the kernel sends it when its parent dies.
        stop_s: seconds between SIGTERM and SIGKILL in `stop`.
        on_stderr: called with every line of its stderr.
        join: files that it writes `0` to before it runs: the `cgroup.procs` of its groups (`Confinement.group`).
        nice: how much nicer than its parent it is.
    """

    name: str
    argv: Sequence[str]
    run_dir: Path
    pipes: bool = False
    memory_limit: int = 0
    stop_s: float = 5.0
    death_signal: int = signal.SIGKILL
    on_stderr: Callable[[str], None] | None = None
    join: Sequence[str] = ()
    nice: int = 0


class Exit(msgspec.Struct, frozen=True):
    """How a child ended: exit code (negative: by that signal), the end of its stderr, the most resident bytes that were seen."""

    code: int
    tail: str
    peak: int = 0

    @property
    def signal(self) -> str:
        """The name of the signal that ended it; empty where none did."""
        return _signal_name(-self.code) if self.code < 0 else ""

    @property
    def sentence(self) -> str:
        how = f"ended by {self.signal}" if self.signal else f"exit code {self.code}"
        last = self.tail.strip().rsplit("\n", 1)[-1]
        return f"{how}: {last}" if last else how

    @property
    def from_outside(self) -> bool:
        """Whether somebody else ended it: a person, or the kernel where memory is short."""
        return -self.code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Record(msgspec.Struct):
    """Pid and start time (clock ticks since boot): together they mean one process and no later one of the same pid."""

    pid: int
    started: int


class Child:
    """One child process, once started; not restarted.

    Start it from the main thread: the kernel sends the death signal when the thread that forked ends. What runs between fork
    and exec takes no lock, imports nothing and logs nothing, so the parent may have other threads.
    """

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._stderr: asyncio.Task[None] | None = None
        self._peaks: asyncio.Task[None] | None = None
        self._peak = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it. Raises OSError when the program cannot be run."""
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = self.spec.memory_limit if most == resource.RLIM_INFINITY else min(self.spec.memory_limit, most)
        parent, join, nice = os.getpid(), [os.fsencode(path) for path in self.spec.join], self.spec.nice

        def in_child() -> None:
            _prctl(PR_SET_PDEATHSIG, self.spec.death_signal, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            for path in join:
                _write_zero(path)
            _be_nicer(nice)
            if limit:
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        pipe = asyncio.subprocess.PIPE if self.spec.pipes else asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(
            *self.spec.argv,
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT,
            preexec_fn=in_child,
            start_new_session=True,
        )
        # a full disk must not keep a child from running: the death signal ends it also without a record
        with contextlib.suppress(OSError):
            self.spec.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write_record(_record_path(self.spec.run_dir, self.spec.name), self._process.pid)
        self._stderr = asyncio.create_task(self._read_stderr(self._process))
        self._peaks = asyncio.create_task(self._watch_peak(self._process.pid))

    async def _watch_peak(self, pid: int) -> None:
        """Often at first, then once a second: when it has ended, the kernel does not say any more how large it was."""
        pause = 0.02
        while self.running:
            self._peak = max(self._peak, peak_of(pid))
            await (asyncio.sleep(pause) if pause < PEAK_S else beat(pause))
            pause = min(PEAK_S, pause * 2)

    async def _read_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await _line(process.stderr):
            text = line.decode(errors="replace").rstrip()
            self.tail.append(text[:500])
            if self.spec.on_stderr is not None:
                self.spec.on_stderr(text)

    async def write_line(self, line: bytes) -> None:
        """Write one line to its stdin; nothing happens when it has ended."""
        if self.running and self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(line + b"\n")
                await self._process.stdin.drain()

    async def read_line(self) -> bytes:
        """The next line of its stdout, empty at the end."""
        assert self._process is not None
        assert self._process.stdout is not None
        return await _line(self._process.stdout)

    async def wait(self) -> Exit:
        """Wait for its end."""
        assert self._process is not None
        code = await self._process.wait()
        if self._peaks is not None:
            self._peaks.cancel()
        if self._stderr is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await asyncio.shield(self._stderr)
        with contextlib.suppress(OSError):
            _record_path(self.spec.run_dir, self.spec.name).unlink()
        return Exit(code, "\n".join(self.tail), self._peak)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.running and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def stop(self) -> Exit:
        """SIGTERM, and SIGKILL after `stop_s` seconds."""
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(self.spec.stop_s):
                return await self.wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> Exit:
        """SIGKILL, and wait."""
        self.send(signal.SIGKILL)
        return await self.wait()

    def memory(self) -> int:
        """Resident bytes; 0 when it has ended."""
        used = memory_of(self.pid) if self.running and self.pid is not None else 0
        self._peak = max(self._peak, used)
        return used

    async def outgrown(self, most: Callable[[], int]) -> str:
        """Wait until its resident memory is over a bound (0: none), asked at each look; says so, or nothing when it ends."""
        while self.running:
            used, bound = self.memory(), most()
            if bound and used > bound:
                return f"it used {used >> 20} MiB, allowed are {bound >> 20} MiB"
            await asyncio.sleep(next_look(used, bound))
        return ""


def _write_zero(path: bytes) -> None:
    """Move the calling process into a group. A group that is gone is one bound less."""
    try:
        descriptor = os.open(path, os.O_WRONLY)
        os.write(descriptor, b"0")
        os.close(descriptor)
    except OSError:
        return


def _be_nicer(by: int) -> None:
    """A machine that does not let it be is no reason not to run."""
    try:
        os.nice(by)
    except OSError:
        return


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next line, empty at the end; lines over the limit are left out."""
    while True:
        try:
            return await stream.readline()
        except ValueError:
            continue


def memory_of(pid: int) -> int:
    """Resident bytes of a process; 0 when there is none."""
    try:
        file = os.open(f"/proc/{pid}/statm", os.O_RDONLY)  # many times a second: 6 µs, where a Path took 59
    except OSError:
        return 0
    try:
        return int(os.read(file, 128).split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
    finally:
        os.close(file)


def proportional_memory_of(pid: int) -> int:
    """Resident bytes of a process, of pages that others have too its share (PSS); resident bytes where the kernel tells no more."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace")
    except OSError:
        return memory_of(pid)
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) << 10 if found else memory_of(pid)


def next_look(used: int, bound: int) -> float:
    """Seconds until a process's memory is to be looked at again: by then it cannot have passed a bound (0: none) by much.

    At most a quarter of a second, and no more than it takes to fill what is left at 2 GiB a second; 20 ms at least, in which that
    is 40 MiB. (Measured on the 2-core machine: one thread fills new pages at 1.7 GiB a second.)"""
    return min(WATCH_S, max(LEAST_WATCH_S, (bound - used) / FASTEST)) if bound else WATCH_S


def cpu_seconds_of(pid: int) -> float:
    """User and system CPU seconds of a process; 0 when there is none."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def peak_of(pid: int) -> int:
    """The most resident bytes that a process ever had (`VmHWM`); 0 when there is none."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) << 10 if found else 0


class Figures(msgspec.Struct, frozen=True):
    """A process: resident bytes now and at most, CPU seconds so far, when it started (microseconds); all 0 when there is none."""

    memory: int = 0
    peak: int = 0
    cpu_s: float = 0.0
    started: int = 0


def figures_of(pid: int) -> Figures:
    """What a process uses, in one look."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory = process.cpu_times(), int(process.memory_info().rss)
            started = round(process.create_time() * 1e6)
    except psutil.Error:
        return Figures()
    return Figures(memory, max(memory, peak_of(pid)), float(times.user + times.system), started)


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (/proc/<pid>/stat, field 22); None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def _record_path(run_dir: Path, name: str) -> Path:
    return run_dir / f"{name}.pid"


def _write_record(path: Path, pid: int) -> None:
    started = start_time(pid)
    if started is None:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(Record(pid, started)))


def left_over(run_dir: Path, name: str) -> int | None:
    """Pid of a child that an earlier parent left behind: the recorded pid, if the process started when the record says."""
    try:
        record = msgspec.json.decode(_record_path(run_dir, name).read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return None
    return record.pid if start_time(record.pid) == record.started else None


async def end_left_over(run_dir: Path, name: str, seconds: float = 5.0) -> int | None:
    """End such a child and its record: SIGTERM, then SIGKILL; answers its pid, or None when there was none.

    Also for one that is stopped (SIGSTOP): it is woken, for it hears SIGTERM only then."""
    pid = left_over(run_dir, name)
    if pid is None:
        return None
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, seconds)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            os.kill(pid, signal.SIGCONT)
        waited = 0.0
        while left_over(run_dir, name) is not None and waited < patience:
            await asyncio.sleep(0.02)
            waited += 0.02
        if left_over(run_dir, name) is None:
            _record_path(run_dir, name).unlink(missing_ok=True)
            break
    return pid
