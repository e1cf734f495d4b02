"""A process that has the engine loaded and forks a child for each job: a model that crashes, hangs or eats memory ends its own
child only, and no job waits for the engine to be imported.

`python -m skerry.inference.host IDLE_S` opens no model itself. It reads jobs from stdin, one JSON object a line, answers on
stdout, and ends when stdin does or when it has had no job for so long. `EngineHost` is the parent's side; it imports no engine and
no numpy.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import msgspec

from skerry.core import errors
from skerry.core.clock import SystemClock
from skerry.core.errors import RejectedError, SkerryError, UnavailableError

IDLE_S = 60.0
LEAVE_S = 2.0  # a host that has not left by then is killed
START_S = 30.0  # a host that has said nothing for so much longer than its job may take hangs itself
MOST_ANSWER = 256 << 20  # bytes; a longer one is no answer
_PR_SET_PDEATHSIG = 1
_SCRATCH = "skerry-job-"
_ROOM = ("engine.choice", "engine.openvino", "graph.prepare", "catalogue.trial")
_PRELOADED = ("numpy.random", "onnx.helper", "onnxruntime", *(f"skerry.inference.{module}" for module in _ROOM))
_prctl = ctypes.CDLL(None, use_errno=True).prctl
T = TypeVar("T")
Progress = Callable[[int, int], None]


class Job(msgspec.Struct):
    """What a child is to do.

    Attributes:
        work: `module:function` of this room; the function takes the question's JSON and what to call with its progress.
        seconds: until it is ended. memory: bytes of address space that it may take beyond what the host has; 0: no bound.
    """

    work: str
    question: msgspec.Raw
    seconds: float
    memory: int = 0


class Line(msgspec.Struct, omit_defaults=True):
    """One line of an answer: progress, what the work answered, the error it raised, or, at last, how its process ended."""

    progress: tuple[int, int] | None = None
    answer: msgspec.Raw = msgspec.Raw()
    error: tuple[str, str, str, str] | None = None
    code: int | None = None
    late: bool = False


class EngineHost:
    """The parent's side: starts the host for the first job, and again when it has ended. One job at a time; threads wait in turn.

    Args:
        idle_s: seconds without a job after which the host ends.
    """

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the host while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def reap(self) -> None:
        """Take the exit code of a host that has left for want of work."""
        if self._process is not None:
            self._process.poll()

    def rest(self) -> None:
        """End the host, after the job that it is at, until the next one: for who knows that none comes soon."""
        with self._turn:
            self._let_go()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise UnavailableError("the process that runs models is ended")
        if self._process is None or self._process.poll() is not None:
            self._let_go()
            threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # threads do not survive a fork
            self._process = subprocess.Popen(
                [sys.executable, "-m", "skerry.inference.host", str(self._idle_s)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **threads}, bufsize=0,
            )  # fmt: skip
        return self._process

    def ask(
        self,
        work: str,
        question: msgspec.Struct,
        kind: type[T],
        *,
        seconds: float,
        memory: int = 0,
        where: str = "",
        progress: Progress | None = None,
    ) -> T:
        """Have a child do some work, and its answer.

        Args:
            kind: the type of the answer. where: what errors call the model. See `Job` for the rest.

        Raises what the work raises, `RejectedError` in one sentence when it ended its process or did not end in time, and
        `UnavailableError` when the host itself was ended.
        """
        job = msgspec.json.encode(Job(work, msgspec.Raw(msgspec.json.encode(question)), seconds, memory)) + b"\n"
        with self._turn:  # a second time where it ended for want of work just before it was asked
            last = self._put(job, seconds, progress) or self._put(job, seconds, progress)
        if last is None or last.code is None or self._closed:
            raise UnavailableError("the process that runs models was ended", where=where, mend="try again")
        if last.late:
            raise RejectedError(f"it did not end within {seconds:g} s", where=where, mend="use a smaller model")
        if last.error is not None and last.error[0]:
            raise _raised(*last.error)
        if last.code or not bytes(last.answer):
            told = f"the model ended the process that ran it: {_ending(last, memory)}"
            raise RejectedError(told, where=where, mend="check it with onnx.checker")
        return msgspec.json.decode(last.answer, type=kind)

    def _put(self, job: bytes, seconds: float, progress: Progress | None) -> Line | None:
        """All that was said about a job in one line, without a code when the host was ended; None when it had left by itself."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        found = Line()
        try:
            left = memoryview(job)
            while left:
                left = left[process.stdin.write(left) :]
            for raw in _lines(process.stdout.fileno(), seconds + START_S):
                with contextlib.suppress(msgspec.DecodeError):  # of a child that ended within a line
                    line = msgspec.json.decode(raw, type=Line)
                    if line.progress is not None and progress is not None:
                        progress(*line.progress)
                    found.answer, found.error = line.answer if bytes(line.answer) else found.answer, line.error or found.error
                    if line.code is not None:
                        found.code, found.late = line.code, line.late
                        return found
        except (OSError, ValueError):  # closed meanwhile
            pass
        except BaseException:
            self._let_go()  # what it would still say belongs to nobody
            raise
        return None if self._let_go() == 0 else found

    def _let_go(self) -> int | None:
        """End the host and the job that it is at; its exit code: 0 when it left, as it does when its stdin ends."""
        process, self._process = self._process, None
        if process is None:
            return None
        _close(process.stdin)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LEAVE_S)
        process.kill()
        _close(process.stdout)
        return process.wait()

    def close(self) -> None:
        """End the host and the job that it is at."""
        self._closed = True
        process = self._process
        if process is not None:
            _close(process.stdin)
        with self._turn:
            self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(OSError):
            pipe.close()


def _lines(source: int, seconds: float) -> Any:
    """Lines as they come, until the end, or until nothing came for so long. A child's progress begins the wait anew."""
    poll = select.poll()
    poll.register(source, select.POLLIN)
    rest = b""
    while poll.poll(seconds * 1000):
        piece = os.read(source, 1 << 16)
        if not piece or len(rest) > MOST_ANSWER:
            return
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


def _raised(kind: str, message: str, where: str, mend: str) -> SkerryError:
    """The error that the work raised, made again here."""
    found: type[SkerryError] = getattr(errors, kind, RejectedError)
    return found(message, where=where, mend=mend)


def _ending(last: Line, memory: int) -> str:
    code = last.code or 0
    if code == -signal.SIGKILL:
        may = f" (it may take {memory >> 20} MiB)" if memory else ""
        return f"it was killed, most likely for want of memory{may}"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the engine crashed ({signal.Signals(-code).name})"
    return last.error[1] if last.error is not None else f"it left with code {code}"


def statm(column: int) -> int:
    """Bytes of address space (0), of resident memory (1), and of that what is of files (2), of this process."""
    return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")


def serve(idle_s: float) -> None:
    """The host: reads jobs and forks until stdin ends or nothing has come for so long. It has one thread: no lock can be held by
    another one at a fork."""
    for module in _PRELOADED:
        importlib.import_module(module)
    _tidy()
    gc.collect()
    gc.freeze()  # what all children share is not looked at, and so not copied, in each of them
    asked = select.poll()
    asked.register(0, select.POLLIN)
    while asked.poll(idle_s * 1000):
        line = sys.stdin.buffer.readline()
        if not line:
            return
        job = msgspec.json.decode(line, type=Job)
        # of the child, which may end without tidying up
        with tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{os.getpid()}-") as scratch:
            code, late = _forked(job, scratch)
        os.write(1, b"\n" + msgspec.json.encode(Line(code=code, late=late)) + b"\n")


def _tidy() -> None:
    """Remove what hosts have left behind that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        owner = folder.name.removeprefix(_SCRATCH).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


def _forked(job: Job, scratch: str) -> tuple[int, bool]:
    """Do a job in a child: how it ended (negative: by that signal), and whether it took too long."""
    ends, held = os.pipe()  # its end is the child's end
    parent = os.getpid()
    child = os.fork()
    if not child:
        code = 1
        try:
            code = _do(job, parent, scratch)
        finally:
            os._exit(code)
    os.close(held)
    poll = select.poll()
    for source in (ends, 0):  # nothing but its end comes on stdin while a job is under way
        poll.register(source, select.POLLIN)
    now = SystemClock().monotonic
    until = now() + job.seconds
    ready: list[tuple[int, int]] = []
    while not ready and (left := until - now()) > 0:
        ready = poll.poll(left * 1000)
    late = not ready
    if late or any(source == 0 for source, _ in ready):
        for kill in (os.killpg, os.kill):  # with what it has started itself
            with contextlib.suppress(OSError):
                kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ends)
    return os.waitstatus_to_exitcode(status), late


def _do(job: Job, parent: int, scratch: str) -> int:
    """The child: its exit code. What libraries print goes nowhere."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return 1
    os.setpgid(0, 0)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # when memory is short the kernel takes this process first
    tempfile.tempdir = os.environ["TMPDIR"] = scratch
    answers = os.dup(1)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)

    def say(line: Line) -> None:
        left = memoryview(msgspec.json.encode(line) + b"\n")
        while left:
            left = left[os.write(answers, left) :]

    try:
        module, _, name = job.work.partition(":")
        work = getattr(importlib.import_module(f"skerry.inference.{module}"), name)
        if job.memory:
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            most = statm(0) + job.memory
            resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        found = work(bytes(job.question), lambda done, whole: say(Line(progress=(done, whole))))
        say(Line(answer=msgspec.Raw(msgspec.json.encode(found))))
    except SkerryError as error:
        say(Line(error=(type(error).__name__, error.message, error.where, error.mend)))
    except (MemoryError, OSError) as error:
        reason = str(error) or "it needs too much memory"
        say(Line(error=("RejectedError", f"the model cannot be run: {reason}", "", f"it may take {job.memory >> 20} MiB")))
    except BaseException as error:  # noqa: BLE001 - told, and then it ends anyway
        say(Line(error=("", f"{type(error).__name__}: {error}", "", "")))
        return 1
    return 0


if __name__ == "__main__":
    serve(float(sys.argv[1]))
    os._exit(0)  # nothing is left to tidy up
