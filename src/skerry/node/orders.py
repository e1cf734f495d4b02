"""Commands from the centre, carried out by this node, each once, and answered: published on its broker, or done by itself."""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.broker import Bucket
from skerry.core import log
from skerry.core.clock import Clock, to_rfc3339
from skerry.core.errors import RejectedError, SkerryError, UnavailableError
from skerry.trust import read_public
from skerry.uplink import Command, Done, Memory, judge, open_command

if TYPE_CHECKING:
    from skerry.node.life import Node

CURSORS, KEY = "skerry_cursors", "uplink.commands"
MOST_WAITING = 100
AGAIN_S, MOST_ANSWERED = 30.0, 1000
OWN = "node"
PIPELINE = "commands"
_log = log.get("uplink")


class Orders:
    """Takes the frames that the uplink hands on; a service.

    Attributes:
        carried_out, refused: commands since the start.
    """

    def __init__(self, node: "Node", clock: Clock) -> None:
        self.carried_out = self.refused = 0
        self._node = node
        self._clock = clock
        self._answered: dict[str, float] = {}
        self._frames: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)

    def take(self, frames: list[bytes]) -> None:
        """Note what came; what is one too many comes again, or its sender hears nothing."""
        for frame in frames:
            if not self._frames.full():
                self._frames.put_nowait(frame)

    async def run(self) -> None:
        """Carry out what comes until cancelled."""
        while True:
            frame = await self._frames.get()
            try:
                await self._carry_out(frame)
            except RejectedError as error:
                self._refuse(None, error.message)
            except (SkerryError, OSError, msgspec.MsgspecError) as error:
                _log.warning(f"a command waits for its sender to send it again: {error}")

    async def _carry_out(self, frame: bytes) -> None:
        section, client = self._node.config.uplink.commands, self._node.link.client
        if not section.key or not section.allow:
            raise RejectedError("this node takes no commands")
        if client is None:
            raise UnavailableError("the broker is not there")
        path = self._node.config.base / section.key
        command = open_command(frame, read_public(await asyncio.to_thread(path.read_bytes), str(path)))
        bucket = Bucket(client, CURSORS)
        kept = await bucket.get(KEY)
        memory = msgspec.msgpack.decode(kept, type=Memory) if kept else Memory()
        now = self._clock.now()
        memory.forget(now)
        before = memory.done.get(command.id)
        if before is None:
            before = await self._first_time(command, memory, bucket, now)
        if self._may_answer(command.id):
            await self._answer(command, before)

    def _may_answer(self, identity: str) -> bool:
        """Whether it was not answered a moment ago: who sends old commands again must not fill the link with answers."""
        now = self._clock.monotonic()
        if now - self._answered.get(identity, -AGAIN_S) < AGAIN_S:
            return False
        self._answered.pop(identity, None)
        self._answered[identity] = now
        while len(self._answered) > MOST_ANSWERED:
            self._answered.pop(next(iter(self._answered)))
        return True

    async def _first_time(self, command: Command, memory: Memory, bucket: Bucket, now: int) -> Done:
        config = self._node.config
        why = judge(command, config.node.site, config.node.name, config.uplink.commands.allow, memory, now)
        if why:
            self._refuse(command, why)
            return Done(command.expires, "refused", why)
        memory.done[command.id] = Done(command.expires, "failed", "the node ended while it was under way")
        await bucket.set(KEY, msgspec.msgpack.encode(memory))
        try:
            await self._do(command)
            done = Done(command.expires, "done")
            self.carried_out += 1
        except (SkerryError, OSError) as error:
            done = Done(command.expires, "failed", str(error)[:300])
        self._audit("command carried out" if done.outcome == "done" else "command failed", command, done.reason)
        memory.done[command.id] = done
        await bucket.set(KEY, msgspec.msgpack.encode(memory))
        return done

    async def _do(self, command: Command) -> None:
        if command.topic.split("/")[0] != OWN:
            await self._node.publish(command.topic, command.payload, 1, False)
            return
        levels = command.topic.split("/")
        if len(levels) != 4 or levels[1] != "pipelines" or levels[3] not in ("pause", "resume"):
            raise RejectedError("the node itself knows node/pipelines/<name>/pause and …/resume", where=command.topic)
        self._node.config.pipeline(levels[2])
        await self._node.pause(levels[2], levels[3] == "pause")

    def _refuse(self, command: Command | None, why: str) -> None:
        self.refused += 1
        self._audit("command refused", command, why)

    def _audit(self, event: str, command: Command | None, reason: str) -> None:
        about = command or Command("", "", "", "", b"", 0, 0)
        self._node.audit.note(event, by="centre", reason=reason, id=about.id, topic=about.topic)

    async def _answer(self, command: Command, done: Done) -> None:
        """An event for the centre: `label` is what became of the command of that id."""
        now = to_rfc3339(self._clock.now())
        label = f"{done.outcome}: {done.reason}" if done.reason else done.outcome
        answer: dict[str, Any] = {
            "id": f"command:{command.id}", "pipeline": PIPELINE, "key": command.id, "node": self._node.config.node.name,
            "start": now, "end": now, "count": 0, "score": None, "label": label,
            "state": "info", "severity": None, "features": {}, "model": None, "version": None, "latency_ms": 0.0,
        }  # fmt: skip
        await self._node.uplink.say(msgspec.json.encode(answer))
