"""Envelopes over HTTP: one POST each; taken is what the answer proves to be taken.

A captive portal answers 200 to everything. So a good answer is JSON that repeats the envelope's digest: `{"digest": "…"}`.
"""

import asyncio
import base64
import binascii
from typing import Any

import msgspec

from skerry.core.errors import RejectedError, UnavailableError
from skerry.http import Answer, Poster
from skerry.uplink.credentials import read_credentials
from skerry.uplink.envelope import digest_of
from skerry.uplink.targets.target import TIMEOUT_S, HeldUpError, Place, TakeCommand, TooLargeError

CONTENT_TYPE = "application/vnd.skerry.uplink"
PATH = "/api/v1/uplink/receive"
LONGEST_WAIT_S = 600.0


class _Taken(msgspec.Struct):
    digest: str
    commands: list[str] = []


class HttpTarget:
    """One endpoint; commands come with its answers."""

    def __init__(self, place: Place, take: TakeCommand) -> None:
        self._place = place
        self._take = take
        self._poster: Poster | None = None
        self._opening = asyncio.Lock()
        self.where = place.url

    async def send(self, envelope: bytes) -> None:
        poster = await self._open()
        answer = await poster.post(envelope, CONTENT_TYPE)
        self._judge(answer, digest_of(envelope))

    async def _open(self) -> Poster:
        async with self._opening:
            if self._poster is None:
                known = await asyncio.to_thread(read_credentials, self._place.credentials)
                poster = Poster(self._place.url, PATH, TIMEOUT_S, token=known.token, ca=self._place.ca)
                self._poster = await poster.__aenter__()
            return self._poster

    def _judge(self, answer: Answer, digest: str) -> None:
        if 200 <= answer.status < 300:
            taken = _decoded(answer.body, _Taken)
            if taken is None or taken.digest != digest:
                why = f"an answer of status {answer.status} that does not prove that the envelope was taken"
                raise UnavailableError(why, where=self.where, mend="is a captive portal or a proxy in between")
            for text in taken.commands:
                try:
                    self._take(base64.b64decode(text, validate=True))
                except binascii.Error:
                    continue
            return
        why = f"it answers {answer.status}{_detail(answer.body)}"
        if answer.status in (408, 425, 429) or answer.status >= 500 or 300 <= answer.status < 400:
            raise HeldUpError(why, where=self.where, wait=_wait(answer.headers.get("retry-after", "")))
        if answer.status in (401, 403):
            mend = "give it a token of scope uplink, of this node's name, with uplink.credentials"
            raise UnavailableError(why, where=self.where, mend=mend)
        raise TooLargeError(why, where=self.where) if answer.status == 413 else RejectedError(why, where=self.where)

    async def close(self) -> None:
        poster, self._poster = self._poster, None
        if poster is not None:
            await poster.close()


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _detail(body: bytes) -> str:
    problem = _decoded(body, dict[str, Any])
    detail = str(problem.get("detail", "")) if problem else ""
    return f": {detail[:200]}" if detail.isprintable() and detail else ""


def _wait(text: str) -> float:
    """Seconds of `Retry-After` (RFC 9110, 10.2.3); a date counts as not said."""
    return min(float(text), LONGEST_WAIT_S) if text.isdecimal() else 0.0
