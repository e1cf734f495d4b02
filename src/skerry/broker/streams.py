"""The streams and buckets of a node: made before any device may connect, bounded, and the log trimmed by us."""

import base64
import json
from typing import Any

import msgspec

from skerry.broker.jetstream import STREAM_NOT_FOUND, Stored, api, kv_get, kv_put, read_page
from skerry.broker.reader import LOG
from skerry.broker.wire import WireClient
from skerry.core.errors import RejectedError, UnavailableError

MIB = 1024 * 1024
FILLER = b"skerry.retry.-.filler"
"""No pipeline is called `-`, so nobody reads it."""
_EMPTY = "="
LOG_SUBJECTS = ("$MQTT.msgs.>", "skerry.q0.>", "skerry.retry.>")


class StreamPlan(msgspec.Struct, frozen=True):
    """A stream to be there: what it captures, how much it may hold, and how many servers keep it: 1, 3 or 5, or 0: as the log."""

    name: str
    subjects: tuple[str, ...]
    max_bytes: int
    discard: str = "old"
    duplicate_window_s: int = 120
    per_subject: int = -1
    longest: int = -1
    replicas: int = 0
    longest_age_s: int = 0

    def config(self) -> dict[str, Any]:
        """The JetStream stream configuration."""
        return {
            "name": self.name,
            "subjects": list(self.subjects),
            "retention": "limits",
            "discard": self.discard,
            "max_bytes": self.max_bytes,
            "max_age": self.longest_age_s * 1_000_000_000,
            "max_msgs": -1,
            "max_msgs_per_subject": self.per_subject,
            "max_msg_size": self.longest,
            "storage": "file",
            "allow_direct": True,
            "duplicate_window": self.duplicate_window_s * 1_000_000_000,
            **({"num_replicas": self.replicas} if self.replicas else {}),
        }


def bucket_plan(name: str, max_bytes: int, replicas: int = 0) -> StreamPlan:
    """A key-value bucket: the last value of each key; a full one refuses instead of forgetting."""
    return StreamPlan(f"KV_{name}", (f"$KV.{name}.>",), max_bytes, "new", 120, 1, replicas=replicas)


def log_plan(quota: int, longest: int = -1, replicas: int = 1) -> StreamPlan:
    """The log itself. A full one closes a device's connection without a PUBACK (`discard: new`), drops nothing acknowledged.

    A message of more than `longest` bytes (with topic and headers) closes the connection too.
    """
    return StreamPlan(LOG, LOG_SUBJECTS, quota, "new", longest=longest, replicas=replicas)


async def ensure(client: WireClient, plan: StreamPlan) -> dict[str, Any]:
    """Make the stream, or bring its limits up to date; answers its state."""
    try:
        info = await api(client, f"STREAM.INFO.{plan.name}")
    except RejectedError as error:
        if f"({STREAM_NOT_FOUND})" not in str(error):
            raise
        wanted = plan.config()
        made = await api(client, f"STREAM.CREATE.{plan.name}", {"num_replicas": await _as_the_log(client)} | wanted)
        state: dict[str, Any] = made["state"]
        return state
    wanted = plan.config()
    if any(info["config"].get(key) != value for key, value in wanted.items()):
        await api(client, f"STREAM.UPDATE.{plan.name}", info["config"] | wanted)
    found: dict[str, Any] = info["state"]
    return found


async def _as_the_log(client: WireClient) -> int:
    """How many servers keep the log; 1 where there is none yet."""
    try:
        info = await api(client, f"STREAM.INFO.{LOG}")
    except RejectedError as error:
        if f"({STREAM_NOT_FOUND})" not in str(error):
            raise
        return 1
    return int(info["config"]["num_replicas"])


async def stream_state(client: WireClient, name: str) -> dict[str, Any]:
    """messages, bytes, first_seq, last_seq … of a stream."""
    info = await api(client, f"STREAM.INFO.{name}")
    state: dict[str, Any] = info["state"]
    return state


async def session_floor(client: WireClient) -> int | None:
    """The lowest log sequence that an MQTT session still has to deliver or to have acknowledged; None when none has.

    A consumer with nothing pending may show a floor of 0 and holds nothing.
    """
    floor: int | None = None
    offset = 0
    while True:
        page = await api(client, f"CONSUMER.LIST.{LOG}", {"offset": offset})
        consumers = page.get("consumers") or []
        for consumer in consumers:
            owed = consumer.get("num_pending", 0) + consumer.get("num_ack_pending", 0)
            if owed and consumer["config"].get("ack_policy") != "none":
                at = int(consumer["ack_floor"]["stream_seq"])
                floor = at if floor is None else min(floor, at)
        offset += len(consumers)
        if not consumers or offset >= int(page.get("total", 0)):
            return floor


async def trim(client: WireClient, through: int) -> int:
    """Drop the log up to and with a sequence; answers how many messages went."""
    answer = await api(client, f"STREAM.PURGE.{LOG}", {"seq": through + 1})
    return int(answer.get("purged", 0))


async def sequence_at(client: WireClient, stream: str, start_time: str) -> int | None:
    """Sequence of a stream's first message at or after an RFC 3339 time, or None."""
    body = json.dumps({"start_time": start_time, "next_by_subj": ">", "batch": 1}).encode()
    frame = await client.request(f"$JS.API.DIRECT.GET.{stream}".encode(), body)
    for line in frame[2].split(b"\r\n"):
        if line.startswith(b"Nats-Sequence:"):
            return int(line.split(b":", 1)[1])
    return None


async def fill_to(client: WireClient, sequence: int) -> int:
    """Raise the log's last sequence to at least `sequence` with empty messages; answers how many.

    After a power cut the log's tail may be lost while a checkpoint behind it is not; new messages must not get sequences that were
    processed before.
    """
    state = await stream_state(client, LOG)
    missing = sequence - int(state["last_seq"])
    if missing > 0 and not int(state["messages"]):
        # nothing is there that could be lost: the sequence of an empty stream can be set
        await api(client, f"STREAM.PURGE.{LOG}", {"seq": sequence + 1})
        return missing
    for left in range(max(0, missing) - 1, -1, -1):
        if left % 5000:
            client.publish(FILLER, b"")
            continue
        # a pong says that the server has read them, only an acknowledgement that they are stored
        answer = json.loads((await client.request(FILLER, b""))[3])
        if "error" in answer:
            raise UnavailableError(f"the log could not be brought to sequence {sequence}: {answer['error'].get('description')}")
    return max(0, missing)


class Bucket:
    """A key-value bucket behind `skerry.core.ports.KeyValue`; keys may hold any character."""

    def __init__(self, client: WireClient, name: str) -> None:
        self._client = client
        self._name = name

    async def get(self, key: str) -> bytes | None:
        found = await kv_get(self._client, self._name, _token(key))
        return found[0] if found else None

    async def set(self, key: str, value: bytes) -> None:
        await kv_put(self._client, self._name, _token(key), value, None)

    async def delete(self, key: str) -> None:
        subject = f"$KV.{self._name}.{_token(key)}".encode()
        frame = await self._client.request(subject, b"", b"KV-Operation: DEL\r\n")
        if "error" in json.loads(frame[3]):
            raise UnavailableError(f"{self._name}/{key} was not deleted")

    async def items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        found = [(_name(token), value) for token, value in await self._live()]
        return sorted(item for item in found if item[0].startswith(prefix))

    async def changes(self, after: int) -> tuple[list[tuple[str, bytes | None]], int]:
        """What was written behind a sequence (None: deleted), the oldest first, a page of it; and where to go on."""
        prefix = f"$KV.{self._name}."
        page = await read_page(self._client, f"KV_{self._name}", f"{prefix}>", after, 50)
        found = [(_name(stored.subject.removeprefix(prefix)), None if _gone(stored) else stored.payload) for stored in page]
        return found, page[-1].sequence if page else after

    async def end(self) -> int:
        """The sequence of what was written last."""
        return int((await stream_state(self._client, f"KV_{self._name}"))["last_seq"])

    async def _live(self) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        after = 0
        while page := await read_page(self._client, f"KV_{self._name}", f"$KV.{self._name}.>", after, 50):
            after = page[-1].sequence
            live = [stored for stored in page if not _gone(stored)]
            found += [(stored.subject.removeprefix(f"$KV.{self._name}."), stored.payload) for stored in live]
        return found


def _gone(stored: Stored) -> bool:
    return stored.headers.get("kv-operation") in ("DEL", "PURGE")


def _token(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=") or _EMPTY


def _name(token: str) -> str:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode() if token != _EMPTY else ""
