"""`/api/v1/kv`: the node's key-value store. Keys are text; values are text, or base64 where they are not UTF-8."""

import base64
import binascii
from typing import TYPE_CHECKING, Any

import msgspec

from skerry.api import arguments
from skerry.api.endpoints import API, Endpoint, Parameter
from skerry.api.view import NodeView
from skerry.core.errors import RejectedError
from skerry.core.units import parse_duration
from skerry.http import NotFoundError, Request, Response, json_response

if TYPE_CHECKING:
    from skerry.store import KeyValueStore

_MOST_BYTES = 4 << 20
"""Of keys and values of a page; one row may be more."""
_PREFIX = Parameter("prefix", "only keys that begin so")
_LIMIT = Parameter("limit", "rows of a page, 1 to 1000, fewer where they are over 4 MiB", "integer")
_AFTER = Parameter("after", "the `next` of the page before")


class NewValue(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `POST /api/v1/kv/{key}`: `value` or `base64`; `ttl` is a duration after which it is gone."""

    value: str | None = None
    base64: str | None = None
    ttl: str | None = None


class KvHandlers:
    """The four endpoints, on the store that the view opens."""

    def __init__(self, view: NodeView) -> None:
        self._view = view

    def endpoints(self) -> list[Endpoint]:
        """All of them, for routes and OpenAPI."""
        one = f"{API}/kv/{{key}}"
        return [
            Endpoint("GET", f"{API}/kv", self.scan, "Keys and values in order", query=(_PREFIX, _LIMIT, _AFTER)),
            Endpoint("GET", one, self.get, "One value"),
            Endpoint("POST", one, self.set, "Set a value", body=arguments.schema(NewValue), event="value set"),
            Endpoint("DELETE", one, self.delete, "Remove a value", event="value deleted"),
        ]

    async def _store(self) -> "KeyValueStore":
        return await self._view.store()

    async def scan(self, request: Request) -> Response:
        given = arguments.query(request, ("prefix", "limit", "after"))
        limit, prefix = arguments.limit_of(given), _utf8(given.get("prefix", ""))
        after = _cursor(given.get("after", ""))
        rows: list[dict[str, Any]] = []
        last, size = b"", 0
        store = await self._store()
        # with a prefix its end is found by looking at it: a scan takes a prefix or a range
        async for key, value in store.scan(begin=max(prefix, after + b"\0" if after else b"")):
            if not key.startswith(prefix):
                break
            size += len(key) + len(value)
            if len(rows) == limit or (rows and size > _MOST_BYTES):
                return json_response({"entries": rows, "next": base64.urlsafe_b64encode(last).decode()})
            rows.append({**_shown("key", key), **_shown("value", value)})
            last = key
        return json_response({"entries": rows, "next": None})

    async def get(self, request: Request) -> Response:
        name = request.params["key"]
        value = await (await self._store()).get(_utf8(name))
        if value is None:
            raise NotFoundError(f"there is no value of {name[:200]!r}")
        return json_response({"key": name, **_shown("value", value)})

    async def set(self, request: Request) -> Response:
        name, new = request.params["key"], arguments.body(request, NewValue)
        if (new.value is None) == (new.base64 is None):
            raise RejectedError("a value is text or base64", where=request.path, mend="give one of `value` and `base64`")
        try:
            value = _utf8(new.value) if new.value is not None else base64.b64decode(new.base64 or "", validate=True)
        except binascii.Error as error:
            raise RejectedError(f"that is not base64: {error}", where="base64") from error
        ttl = parse_duration(new.ttl) / 1e6 if new.ttl is not None else None
        await (await self._store()).set(_utf8(name), value, ttl=ttl)
        return json_response({"set": name})

    async def delete(self, request: Request) -> Response:
        name = request.params["key"]
        await (await self._store()).delete(_utf8(name))
        return json_response({"deleted": name})


def _shown(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def _utf8(text: str) -> bytes:
    # JSON and escaped paths may carry half a surrogate pair, which is no text
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise RejectedError(f"{text[:80]!r} is no text", mend="use UTF-8") from error


def _cursor(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text)
    except (binascii.Error, ValueError) as error:
        raise RejectedError(f"{text[:80]!r} is no `next` of a page", where="after") from error
