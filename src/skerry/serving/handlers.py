"""What the model server answers: health, metadata, configuration, inference, statistics and the model repository.

Source: kserve open-inference-protocol `inference_rest.md`; Triton's `extension_model_repository.md`, `extension_statistics.md`.
"""

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version as version_of
from typing import Any
from urllib.parse import unquote

import msgspec

from skerry.core import log
from skerry.core.errors import InsufficientResources, OverloadedError, RejectedError, SkerryError, UnavailableError
from skerry.http import NotFoundError
from skerry.inference import EdgeInference, Signature
from skerry.serving.codec import NAMES, Infer, decode_infer, encode_infer
from skerry.serving.frames import BODY, Answer, Ask
from skerry.serving.models import Entry, LoadedModels

JSON = {"content-type": "application/json"}
JOINED = 64 * 1024  # bytes of a body: larger ones do not keep small ones waiting
EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]
_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(infer|ready|config|stats))?")
_REPOSITORY = re.compile(r"/v2/repository/(?:index|models/([^/]+)/(load|unload))")
_log = log.get("serving")
Reply = tuple[int, Mapping[str, str], bytes]


class Group:
    """Inference requests that came together, for one loaded version and the same outputs; it is held until they are answered."""

    __slots__ = ("asks", "entry", "outputs", "requests")

    def __init__(self, entry: Entry, outputs: list[str] | None) -> None:
        self.entry = entry
        self.outputs = outputs
        self.asks: list[Ask] = []
        self.requests: list[Infer] = []
        entry.hold()


class Handlers:
    """Answers requests from the models that are loaded."""

    def __init__(self, models: LoadedModels) -> None:
        self._models = models

    async def answer(self, ask: Ask) -> Answer:
        """The answer to a request. Never raises: errors are `{"error": sentence}` with their status."""
        try:
            return Answer(ask.id, *await self._dispatch(ask))
        except SkerryError as error:
            return Answer(ask.id, status_of(error), JSON, msgspec.json.encode({"error": str(error)}))
        except Exception as error:  # noqa: BLE001 - the door: whatever went wrong inside is one answer outside
            _log.error(f"{ask.method} {ask.path} failed: {error!r}", exc_info=True)
            return Answer(ask.id, 500, JSON, b'{"error":"it did not work; see the node\'s log"}')

    def sort(self, asks: Sequence[Ask]) -> tuple[list[Group], list[Ask]]:
        """The small inference requests of loaded versions, put together, and all others, which `answer` is for."""
        groups: dict[object, Group] = {}
        entries: dict[str, Entry | None] = {}
        others: list[Ask] = []
        for ask in asks:
            try:
                entry = entries[ask.path] if ask.path in entries else entries.setdefault(ask.path, self._target(ask.path))
                if entry is None or ask.method != "POST" or len(ask.body) > JOINED or "content-encoding" in ask.headers:
                    others.append(ask)
                    continue
                request = decode_infer(ask.body, ask.headers.get("inference-header-content-length"))
            except Exception:  # noqa: BLE001 - it is told why there, and the others of this read are not held up
                others.append(ask)
                continue
            key = (entry, tuple(request.outputs) if request.outputs else None)
            group = groups.get(key)
            if group is None:
                group = groups[key] = Group(entry, request.outputs)
            group.asks.append(ask)
            group.requests.append(request)
        return list(groups.values()), others

    def _target(self, path: str) -> Entry | None:
        """The loaded version that a path wants an inference of."""
        found = _MODEL.fullmatch(path)
        if found is None or found[3] != "infer":
            return None
        return self._models.ready(unquote(found[1]), found[2] and unquote(found[2]))

    async def answer_group(self, group: Group, send: Callable[[Answer], None]) -> None:
        """Answer requests that came together; where that fails, each by itself, so that nobody pays for another's mistake."""
        model = group.entry.model
        try:
            if len(group.asks) == 1:
                found = [await model.infer(group.requests[0].feed, group.outputs)]
            else:
                found = await model.batch_infer([request.feed for request in group.requests], group.outputs)
            replies = [_reply(model, *each) for each in zip(group.requests, found, strict=True)]
        except Exception:  # noqa: BLE001 - each is told its own error
            replies = []
        finally:
            group.entry.release()
        if replies:
            for ask, reply in zip(group.asks, replies, strict=True):
                send(Answer(ask.id, *reply))
            return
        for answer in await asyncio.gather(*(self.answer(ask) for ask in group.asks)):
            send(answer)

    async def _dispatch(self, ask: Ask) -> Reply:
        if found := _MODEL.fullmatch(ask.path):
            name, version, what = unquote(found[1]), found[2] and unquote(found[2]), found[3]
            if what == "infer":
                _only("POST", ask)
                return await self._infer(ask, name, version)
            _only("GET", ask)
            answer: Callable[[str, str | None], Awaitable[Reply]] = {
                None: self._metadata, "ready": self._model_ready, "config": self._config, "stats": self._stats,
            }[what]  # fmt: skip
            return await answer(name, version)
        if found := _REPOSITORY.fullmatch(ask.path):
            _only("POST", ask)
            return await self._repository(unquote(found[1] or ""), found[2])
        _only("GET", ask)
        if ask.path in ("/v2", "/v2/"):
            return _json({"name": "skerry", "version": version_of("skerry"), "extensions": EXTENSIONS})
        if ask.path == "/v2/health/live":
            return _json({"live": True})
        if ask.path == "/v2/health/ready":
            lacking = [name for name in self._models.active if self._models.ready(name, None) is None]
            return _json({"ready": not lacking}, 503 if lacking else 200)
        if ask.path == "/v2/models/stats":
            return _json({"model_stats": [self._stats_row(name, None) for name in self._models.active]})
        raise NotFoundError(f"there is nothing at {ask.path}")

    async def _infer(self, ask: Ask, name: str, version: str | None) -> Reply:
        request = decode_infer(_inflated(ask), ask.headers.get("inference-header-content-length"))
        entry = await self._models.entry(name, version)
        with entry.use() as model:
            outputs = await model.infer(request.feed, request.outputs)
        return _reply(model, request, outputs)

    async def _metadata(self, name: str, version: str | None) -> Reply:
        entry = await self._models.entry(name, version)
        model = entry.model
        versions = [each for of, each in self._models.configs if of == name]
        shown = {"inputs": [_tensor(each) for each in model.inputs], "outputs": [_tensor(each) for each in model.outputs]}
        return _json({"name": name, "versions": versions, "platform": f"{model.engine}_onnx", **shown})

    async def _model_ready(self, name: str, version: str | None) -> Reply:
        ready = self._models.ready(name, version) is not None
        return _json({"name": name, "ready": ready}, 200 if ready else 503)

    async def _config(self, name: str, version: str | None) -> Reply:
        model = (await self._models.entry(name, version)).model
        rows = model.batching.kind == "rows"
        return _json({
            "name": name, "platform": f"{model.engine}_onnx", "backend": model.engine,
            "max_batch_size": model.batching.max_batch if rows else 0,
            "input": [_configured(each, rows) for each in model.inputs],
            "output": [_configured(each, rows) for each in model.outputs],
        })  # fmt: skip

    async def _stats(self, name: str, version: str | None) -> Reply:
        return _json({"model_stats": [self._stats_row(name, version)]})

    def _stats_row(self, name: str, version: str | None) -> dict[str, Any]:
        config = self._models.known(name, version)
        entry = self._models.ready(name, version)
        if entry is None:
            return {"name": name, "version": config.version, "inference_count": 0, "execution_count": 0}
        stats = entry.model.stats
        spent = {"count": stats.runs, "ns": int(stats.seconds * 1e9)}
        counts = {"inference_count": stats.rows, "execution_count": stats.runs}
        told = {"success": {"count": stats.requests - stats.failed, "ns": spent["ns"]}, "compute_infer": spent}
        told["fail"] = {"count": stats.failed, "ns": 0}
        return {"name": name, "version": config.version, **counts, "inference_stats": told}

    async def _repository(self, name: str, what: str | None) -> Reply:
        if what == "load":
            await self._models.load(name)
            return _json({})
        if what == "unload":
            await self._models.unload(name)
            return _json({})
        rows = []
        for of, version in self._models.configs:
            ready = self._models.ready(of, version) is not None
            reason = self._models.failures.get((of, version), "")
            rows.append({"name": of, "version": version, "state": "READY" if ready else "UNAVAILABLE", "reason": reason})
        return _json(rows)


def _reply(model: EdgeInference, request: Infer, outputs: Mapping[str, Any]) -> Reply:
    """The answer of an inference. Raises `RejectedError` for one that cannot be told."""
    body, size = encode_infer(model.name, model.version, request, outputs)
    if len(body) > BODY:
        raise RejectedError(f"the answer has {len(body)} bytes; {BODY} are allowed", mend="send fewer rows at a time")
    if size is None:
        return 200, JSON, body
    return 200, {"content-type": "application/octet-stream", "inference-header-content-length": str(size)}, body


def status_of(error: SkerryError) -> int:
    """The HTTP status of an error: 404 not there, 503 not now, 400 wrong, 500 otherwise."""
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, OverloadedError | UnavailableError | InsufficientResources):
        return 503
    return 400 if isinstance(error, RejectedError) else 500


def _only(method: str, ask: Ask) -> None:
    if ask.method != method and not (method == "GET" and ask.method == "HEAD"):
        raise RejectedError(f"{ask.method} is not for {ask.path}", mend=f"allowed: {method}")


def _json(value: Any, status: int = 200) -> Reply:
    return status, JSON, msgspec.json.encode(value)


def _tensor(signature: Signature) -> dict[str, Any]:
    datatype = NAMES.get(signature.dtype, signature.dtype)
    return {"name": signature.name, "datatype": datatype, "shape": [-1 if size is None else size for size in signature.shape]}


def _configured(signature: Signature, rows: bool) -> dict[str, Any]:
    dims = [-1 if size is None else size for size in signature.shape]
    datatype = NAMES.get(signature.dtype, "INVALID")
    kind = "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
    return {"name": signature.name, "data_type": kind, "dims": dims[1:] if rows else dims}


def _inflated(ask: Ask) -> bytes:
    """The body without its compression; what the HTTP shell has already unpacked is passed on."""
    encoding = ask.headers.get("content-encoding", "identity").lower()
    if encoding == "identity" or ask.body[:1] == b"{":
        return ask.body
    if encoding not in ("gzip", "deflate"):
        raise RejectedError(f"content-encoding {encoding[:20]!r} is not supported", mend="send gzip, deflate or none")
    unpacker = zlib.decompressobj(47)  # gzip or zlib, told by the header
    try:
        body = unpacker.decompress(ask.body, BODY + 1)
    except zlib.error as error:
        raise RejectedError(f"the body is not {encoding}") from error
    if len(body) > BODY or not unpacker.eof:
        raise RejectedError(f"the unpacked body is cut off or over {BODY} bytes")
    return body
