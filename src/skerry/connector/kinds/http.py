"""HTTP both ways: what others post to the node becomes messages, and events are posted to an endpoint."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

import msgspec

from skerry.connector.contract import Batch, Connector, Message, Outgoing, Place
from skerry.connector.credentials import check_url, read_secret
from skerry.connector.mapping import check_template, fields_of, fill
from skerry.core.errors import ConfigError, RejectedError, UnavailableError
from skerry.http import Answer, Poster, client_tls, parse_target

SCHEMES = ("http", "https")
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/json-lines")
MOST_ITEMS = 1000
MOST_KEY = 128
TIMEOUT_S = 30.0
LONGEST_WAIT_S = 60.0
TRY_AGAIN = (408, 425, 429)
MEND = {401: "give it a token with token_file", 403: "give it a token that may", 404: "look at the url", 405: "look at the url"}


class HttpInSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of an item that is posted to `/api/v1/ingest/<name>`. `tokens`: names of those that may; empty: all."""

    topic: str
    tokens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_template(self.topic, "topic", ("name",))


class HttpIn(Connector):
    """Its `read` has nothing to read: the API gives requests to `messages`, in the agent, and stores what comes of them."""

    Settings = HttpInSettings
    pushed: ClassVar[bool] = True

    def __init__(self, settings: HttpInSettings, place: Place) -> None:
        super().__init__(settings, place)
        self.settings: HttpInSettings = settings

    async def read(self, cursor: bytes) -> AsyncIterator[Batch]:
        await asyncio.Event().wait()
        yield Batch(())

    async def test(self) -> str:
        return f"it waits for POST /api/v1/ingest/{self.place.name}"

    def messages(self, body: bytes, headers: Mapping[str, str]) -> list[Message]:
        """What a request holds: a JSON object, an array of items, or a line each. Raises `RejectedError`: none of it is taken.

        With an `Idempotency-Key` an item keeps its id when the request comes again."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        key = headers.get("idempotency-key", "")
        items = _lines(body) if kind in LINES else _items(body)
        if len(items) > MOST_ITEMS:
            raise RejectedError(f"{len(items)} items in one request", mend=f"send at most {MOST_ITEMS}")
        if not (key.isprintable() and key.isascii() and len(key) <= MOST_KEY):
            raise RejectedError(f"the Idempotency-Key is no ASCII text of at most {MOST_KEY} characters")
        return [Message(self._topic(item, at), item, f"{key}/{at}" if key else "") for at, item in enumerate(items)]

    def _topic(self, item: bytes, at: int) -> str:
        wanted = [name for name in fields_of(self.settings.topic) if name != "name"]
        found = json_fields(item, wanted) if wanted else {}
        topic = fill(self.settings.topic, {**found, "name": self.place.name})
        if topic is None:
            lacks = ", ".join(each for each in wanted if not found.get(each))
            raise RejectedError(f"item {at} lacks {lacks} for the topic {self.settings.topic!r}")
        return topic


def json_fields(payload: bytes, names: Sequence[str]) -> dict[str, str]:
    """Texts and whole numbers of a JSON object by their `.field`, the rest left out."""
    try:
        item = msgspec.json.decode(payload)
    except (msgspec.MsgspecError, RecursionError):
        return {}
    if not isinstance(item, dict):
        return {}
    found = {name: item.get(name[1:]) for name in names}
    return {name: str(value) for name, value in found.items() if isinstance(value, str | int) and not isinstance(value, bool)}


def _items(body: bytes) -> list[bytes]:
    try:
        found = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        _check_json(body, "the body")
        return [body]
    for at, item in enumerate(found):
        _check_json(bytes(item), f"item {at}")
    return [bytes(item) for item in found]


def _lines(body: bytes) -> list[bytes]:
    found = [line.strip() for line in body.split(b"\n") if line.strip()]
    for at, line in enumerate(found):
        _check_json(line, f"line {at + 1}")
    return found


def _check_json(text: bytes, what: str) -> None:
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        mend = "send an object, an array, or NDJSON with its content type"
        raise RejectedError(f"{what} is no JSON: {error}"[:200], mend=mend) from error


class HttpOutSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where events are posted, at most `batch` in one request: a JSON array, a line each, or with `batch = 1` the event itself."""

    url: str
    token_file: str = ""
    ca: str = ""
    format: Literal["json", "ndjson"] = "json"
    batch: int = 50
    pipelines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_url(self.url, SCHEMES)
        if not 1 <= self.batch <= 100:
            raise ConfigError(f"{self.batch} is out of range", where="batch", allowed="1 to 100")


class HttpOut(Connector):
    """Posts events; done is what was answered with 2xx."""

    Settings = HttpOutSettings

    def __init__(self, settings: HttpOutSettings, place: Place) -> None:
        super().__init__(settings, place)
        self.settings: HttpOutSettings = settings
        self._poster: Poster | None = None

    async def send(self, batch: Sequence[Outgoing]) -> None:
        settings = self.settings
        if self._poster is None:
            token = read_secret(self.place.base, settings.token_file)
            ca = str(self.place.base / settings.ca) if settings.ca else ""
            self._poster = await Poster(settings.url, "/", TIMEOUT_S, token=token, ca=ca).__aenter__()
        for begin in range(0, len(batch), settings.batch):
            part = batch[begin : begin + settings.batch]
            # the ids are those of the events: who has them already may leave it
            ids = ",".join(each.id for each in part)
            key = ids if len(part) == 1 else f"{part[0].id}-{part[-1].id}-{len(part)}"
            headers = {"Skerry-Event-Ids": ids, "Idempotency-Key": key}
            await self._judge(await self._poster.post(self._body(part), self._type, headers))

    @property
    def _type(self) -> str:
        return "application/json" if self.settings.format == "json" else LINES[0]

    def _body(self, part: Sequence[Outgoing]) -> bytes:
        if self.settings.format == "ndjson":
            return b"".join(each.payload + b"\n" for each in part)
        if self.settings.batch == 1:
            return part[0].payload
        return b"[" + b",".join(each.payload for each in part) + b"]"

    async def _judge(self, answer: Answer) -> None:
        status = answer.status
        if 200 <= status < 300:
            return
        why = f"it answers {status}"
        if status in TRY_AGAIN or status >= 500 or 300 <= status < 400:
            await asyncio.sleep(_wait(answer.headers.get("retry-after", "")))
            raise UnavailableError(why, where=self.settings.url)
        if status in MEND:
            raise UnavailableError(why, where=self.settings.url, mend=MEND[status])
        raise RejectedError(why, where=self.settings.url)

    async def test(self) -> str:
        """Connects, and posts nothing: an endpoint may take whatever is posted for an event."""
        parts = urlsplit(self.settings.url)
        read_secret(self.place.base, self.settings.token_file)
        target = parse_target(f"{parts.scheme}://{parts.netloc}")
        ca: Path | str = self.place.base / self.settings.ca if self.settings.ca else ""
        tls = client_tls(target, ca) or (ssl.create_default_context() if target.tls else None)
        _, writer = await asyncio.open_connection(target.host, target.port, ssl=tls)
        writer.close()
        return f"{target.url} takes connections"

    async def close(self) -> None:
        poster, self._poster = self._poster, None
        if poster is not None:
            await poster.close()


def _wait(text: str) -> float:
    """Seconds of a `Retry-After`; a date is not waited for."""
    return min(float(text), LONGEST_WAIT_S) if text.isdecimal() else 0.0
