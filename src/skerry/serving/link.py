"""The agent's side of the model server: one child, started when it is first asked for, and whole requests passed on to it."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError, UnavailableError
from skerry.core.service import cancel_and_wait
from skerry.core.units import parse_size
from skerry.runtime import Child, ChildSpec, Confinement, Confines, Exit, Lives
from skerry.serving.frames import BODY, Answer, Ask, Frames, Given, Held

START_S = 60.0
NICE = 4
WAIT_S = 10.0
ANSWER_S = 60.0
_log = log.get("serving")
_decode_loaded = msgspec.json.Decoder(list[Held]).decode
SWEEP_S = 1.0
BEAT_S = 0.5
_BEAT = Ask(0, "GET", "/v2/health/live", {}, b"")  # a number that no request has
# all that the model server looks at
_PASSED = ("inference-header-content-length", "content-encoding")
_JSON = {"content-type": "application/json"}


class ServingPlan(msgspec.Struct, frozen=True):
    """What the model server is given.

    Attributes:
        run_dir: for its socket and pid record. base: directory that relative model files start from.
        cache: directory for optimized graphs. threads: of a model run.
        memory: resident bytes that it may take besides those of its models, 0: no limit; most_memory: all together. It is ended
            and started again when it takes more.
        stall_s: seconds that it may say nothing, not even that it lives; then it is ended and started again.
        cpu: cores that it may take, where a cgroup can hold it to them; 0: no bound.
        in_flight: most requests, and `in_flight_bytes` most bytes of their bodies, that may be under way.
    """

    run_dir: Path
    base: Path
    cache: Path | None = None
    threads: int = 1
    memory: int = 0
    most_memory: int = 0
    stall_s: float = 10.0
    cpu: float = 0.0
    confinement: Confinement = msgspec.field(default_factory=Confinement)
    in_flight: int = 1024
    in_flight_bytes: int = 4 * BODY


class ModelServer:
    """The model server as the agent sees it; a service. It never looks into a tensor."""

    def __init__(self, plan: ServingPlan, clock: Clock, breached: Callable[[str, str], None] = lambda *_: None) -> None:
        self.ready = asyncio.Event()
        self.restarts = Lives(clock)
        self.last_words = ""
        self.loaded: list[Held] = []
        self._outgrown = self._killed_for = ""
        self._plan = plan
        self._breached = breached
        self._clock = clock
        self._rows: list[dict[str, object]] = []
        self._wanted = asyncio.Event()
        self._given = asyncio.Event()
        self._child: Child | None = None
        self._frames: Frames[Answer] | None = None
        self._waiting: dict[int, tuple[asyncio.Future[Answer], float]] = {}  # with the time it is given up, oldest first
        self._heard = False
        self._silent = 0.0
        self._bytes = 0
        self._under_way = 0
        self._next = 0

    @property
    def pid(self) -> int | None:
        """Of the child, None when none runs."""
        return self._child.pid if self._child is not None and self._child.running else None

    async def run(self) -> None:
        """Wait until it is first asked for, then keep the child running, with back-off, until cancelled."""
        await self._wanted.wait()
        while True:
            self.restarts.begin()
            ended: Exit | None = None
            try:
                ended = await self._live()
            except (OSError, SkerryError, TimeoutError) as error:
                self.last_words = f"it could not be started: {str(error) or 'it took too long'}"
            delay = self.restarts.end(ended, own_fault=bool(self._killed_for) or ended is None or not ended.from_outside)
            _log.error(f"the model server ended: {self.last_words}; it is started again in {delay:.1f} s")
            await asyncio.sleep(delay)

    async def _live(self) -> Exit:
        """One life of the child."""
        spec = ChildSpec(
            name="serving", argv=[sys.executable, "-m", "skerry.serving"], run_dir=self._plan.run_dir, pipes=True,
            memory_limit=2 * self._plan.most_memory, nice=NICE,
            join=self._plan.confinement.group("serving", Confines(self._plan.most_memory, self._plan.cpu)),
        )  # fmt: skip
        child = self._child = Child(spec)
        tasks: list[asyncio.Task[None]] = []
        self._outgrown = self._killed_for = ""
        try:
            await child.start()
            tasks.append(asyncio.create_task(self._bound(child)))
            sent = self._rows
            await child.write_line(self._line())
            async with asyncio.timeout(START_S):
                started = await self._said(child)
            if started:
                loop = asyncio.get_running_loop()
                _, frames = await loop.create_unix_connection(lambda: Frames(Answer, self._take), str(self._socket))
                self._frames = frames
                watches = (self._lost(frames), self._obeyed(child), self._give_up(), self._beats(frames))
                tasks += [asyncio.create_task(each) for each in watches]
                self.ready.set()
                if self._rows is not sent:  # there were others while it started
                    await child.write_line(self._line())
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if child.running and not tasks[-1].done():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            await child.wait()
            ended = await (child.kill() if child.running else child.wait())
            hung = len(tasks) > 1 and tasks[-1].done()
            self._killed_for = self._outgrown or (f"it hung: it said nothing for {self._plan.stall_s:g} s" if hung else "")
            self.last_words = self._killed_for or ended.sentence
            return ended
        finally:
            self.ready.clear()
            self.loaded = []
            self._silent = 0.0
            self._fail_all()
            await cancel_and_wait(*tasks)
            if child.running:
                await child.stop()
            if self._frames is not None:
                self._frames.close()
                self._frames = None

    @property
    def _socket(self) -> Path:
        return self._plan.run_dir / "serving.sock"

    def _line(self) -> bytes:
        cache = str(self._plan.cache) if self._plan.cache is not None else ""
        return msgspec.json.encode(Given(self._rows, str(self._plan.base), str(self._socket), cache, self._plan.threads))

    def _take(self, answers: list[Answer], frames: Frames[Answer]) -> None:
        self._heard = True
        for answer in answers:
            waiting, _ = self._waiting.pop(answer.id, (None, 0.0))
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)

    async def _lost(self, frames: Frames[Answer]) -> None:
        await frames.lost

    async def _give_up(self) -> None:
        """Answer what has waited too long; looked at now and then, since a timer for each request costs more than the rest."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = self._clock.monotonic()
            for waiting, due in list(self._waiting.values()):
                if due > now:
                    break
                if not waiting.done():
                    waiting.set_result(_error(503, f"no answer within {ANSWER_S:g} s"))

    async def _beats(self, frames: Frames[Answer]) -> None:
        """Ask whether it lives; returns when it has said nothing for `stall_s`.

        Counted in looks of our own: a node that was itself asleep has looked once meanwhile, and does not blame the server.
        """
        while self._silent < self._plan.stall_s:
            self._heard = False
            frames.send(_BEAT)
            await asyncio.sleep(BEAT_S)
            self._silent = 0.0 if self._heard else self._silent + BEAT_S

    async def _obeyed(self, child: Child) -> None:
        while await self._said(child):
            self._given.set()

    async def _said(self, child: Child) -> bytes:
        """The next line that is no list of what is loaded, empty at the end."""
        while (line := await child.read_line()).startswith(b"["):
            self.loaded = _decode_loaded(line)
        return line

    async def _bound(self, child: Child) -> None:
        """End it when it takes more memory than it may."""
        grown = await child.outgrown(lambda: self.memory_limit)
        if grown:
            await self.end(grown)

    async def end(self, why: str) -> None:
        """Kill it, for its memory; it is started again."""
        if self._child is not None and self._child.running:
            self._outgrown = self._outgrown or why
            self._breached("serving", f"the model server is stopped: {why}")
            await self._child.kill()

    @property
    def memory_limit(self) -> int:
        """Resident bytes that it may take: its own, what each active model may, and the largest once more for a swap."""
        may = [parse_size(str(row["memory"])) for row in self._rows if row.get("active") and row.get("memory")]
        wanted = self._plan.memory + sum(may) + max(may, default=0) if self._plan.memory else 0
        return min(wanted, self._plan.most_memory) if wanted and self._plan.most_memory else wanted

    def _fail_all(self) -> None:
        for waiting, _ in self._waiting.values():
            if not waiting.done():
                waiting.set_result(_error(503, "the model server ended; try again in a moment"))
        self._waiting.clear()
        self._given.set()

    async def give(self, rows: list[dict[str, object]]) -> None:
        """Say which models there are (rows of `ModelConfig`); returns when a running server has switched to them."""
        self._rows = rows
        child = self._child
        if self.ready.is_set() and child is not None:
            self._given.clear()
            await child.write_line(self._line())
            try:
                async with asyncio.timeout(START_S):
                    await self._given.wait()
            except TimeoutError:
                _log.error(f"the model server has not switched its models within {START_S:g} s")

    async def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Pass one request on. Never raises: what goes wrong is an answer `{"error": sentence}`, 400 or 503.

        Args:
            path: as on the wire, still percent-encoded. headers: names in lower case.
        """
        size = len(body)
        if size > BODY:
            return _error(400, f"the body has {size} bytes; {BODY} are allowed")
        if self._under_way >= self._plan.in_flight or self._bytes + size > self._plan.in_flight_bytes:
            return _error(503, "too many requests are under way; try again in a moment")
        self._under_way += 1
        self._bytes += size
        number = self._next = self._next + 1
        try:
            frames = self._frames if self.ready.is_set() else await self._connected()
            if frames is None:
                return _error(503, "the model server ended; try again in a moment")
            if self._silent > self._plan.stall_s / 2:
                return _error(503, f"the model server has said nothing for {self._silent:g} s; try again in a moment")
            waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            self._waiting[number] = (waiting, self._clock.monotonic() + ANSWER_S)
            frames.send(Ask(number, method, path, {name: headers[name] for name in _PASSED if name in headers}, body))
            return await waiting
        except SkerryError as error:
            return _error(503, str(error))
        finally:
            self._waiting.pop(number, None)
            self._under_way -= 1
            self._bytes -= size

    async def _connected(self) -> Frames[Answer] | None:
        """Start the server, or wait for its start."""
        self._wanted.set()
        if self.restarts.quarantined:
            raise UnavailableError(self.restarts.sentence("the model server", self.last_words), mend="see `skerry status`")
        try:
            async with asyncio.timeout(WAIT_S):
                await self.ready.wait()
        except TimeoutError:
            why = f": {self.last_words}" if self.last_words else ""
            raise UnavailableError(f"the model server is not ready{why}", mend="try again in a moment") from None
        return self._frames


def _error(status: int, sentence: str) -> Answer:
    return Answer(0, status, _JSON, msgspec.json.encode({"error": sentence}))
