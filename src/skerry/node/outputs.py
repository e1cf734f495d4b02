"""Reading what pipelines have put out: events in pages and as a stream, dead letters with their retry."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from skerry.broker import Stored, WireClient, api, read_page, sequence_at, stream_state, to_subject
from skerry.core.clock import to_rfc3339
from skerry.core.errors import RejectedError, UnavailableError
from skerry.node.link import Link
from skerry.pipeline import (
    DEAD,
    DEAD_PREFIX,
    EVENTS,
    EVENTS_PREFIX,
    RETRY_PREFIX,
    WINDOW_HEADER,
    DeadLetter,
    key_token,
    show_letter,
    unpack_letters,
)

Row = dict[str, Any]
PAGE = 200
POLL_S = 0.2
RETRIES = 200


def _events_subject(pipeline: str | None, key: str | None) -> str:
    return f"{EVENTS_PREFIX}{pipeline or '*'}.{key_token(key) if key is not None else '*'}"


def _sequence(token: str) -> int:
    if not token.isdigit():
        raise RejectedError(f"{token!r} is no token of a page", mend="use `next` of the page before")
    return int(token)


class Outputs:
    """The event log and the dead letters, over the node's connection. Raises `UnavailableError` while there is none."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def _client(self) -> WireClient:
        if self._link.client is None or not self._link.opened.is_set():
            raise UnavailableError("the log does not answer now", mend="try again; `skerry status` says why")
        return self._link.client

    async def events(
        self, pipeline: str | None, key: str | None, since: int | None, limit: int, after: str | None
    ) -> tuple[list[Row], str | None]:
        """A page of events in the log's order, and the token of the next page, None at the end."""
        begin = _sequence(after) if after is not None else 0
        if since is not None:
            first = await sequence_at(self._client, EVENTS, to_rfc3339(since))
            if first is None:
                return [], None
            begin = max(begin, first - 1)
        page = await read_page(self._client, EVENTS, _events_subject(pipeline, key), begin, limit)
        following = str(page[-1].sequence) if len(page) == limit else None
        return [json.loads(stored.payload) for stored in page], following

    async def last_events(self, pipeline: str | None, key: str | None, limit: int) -> tuple[list[Row], int]:
        """The last events, oldest first, and the log's end."""
        state = await stream_state(self._client, EVENTS)
        last, first = int(state["last_seq"]), int(state["first_seq"])
        span, found = max(limit, PAGE), list[Stored]()
        while True:
            begin = max(first - 1, last - span)
            found = [stored async for stored in self._walk(_events_subject(pipeline, key), begin)]
            if len(found) >= limit or begin <= first - 1:
                return [json.loads(stored.payload) for stored in found[-limit:]], last
            span *= 4

    async def _walk(self, subject: str, after: int) -> AsyncIterator[Stored]:
        while page := await read_page(self._client, EVENTS, subject, after, PAGE):
            after = page[-1].sequence
            for stored in page:
                yield stored

    async def event_stream(self, after: int | None, pipeline: str | None, key: str | None) -> AsyncIterator[tuple[int, Row]]:
        """Sequence and event, for ever: those after a sequence, or from now on; a connection lost is waited for."""
        subject = _events_subject(pipeline, key)
        while after is None:
            try:
                after = int((await stream_state(self._client, EVENTS))["last_seq"])
            except UnavailableError:
                await asyncio.sleep(POLL_S)
        while True:
            try:
                page = await read_page(self._client, EVENTS, subject, after, PAGE)
            except UnavailableError:
                await asyncio.sleep(POLL_S)
                continue
            for stored in page:
                after = stored.sequence
                yield after, json.loads(stored.payload)
            if not page:
                await self._link.bell.wait(POLL_S * 5)

    async def deadletters(self, pipeline: str, limit: int, after: str | None) -> tuple[list[Row], str | None]:
        """A page of dead letters, oldest first; the token is `sequence.place`, since one message of the stream holds many."""
        begin, place = _place(after)
        rows: list[Row] = []
        while page := await read_page(self._client, DEAD, f"{DEAD_PREFIX}{pipeline}", begin - 1 if begin else 0, 20):
            for stored in page:
                for at, letter in enumerate(unpack_letters(stored.payload)):
                    if stored.sequence == begin and at < place:
                        continue
                    if len(rows) == limit:
                        return rows, f"{stored.sequence}.{at}"
                    rows.append({**show_letter(letter), "at": to_rfc3339(letter.arrival)})
            begin, place = page[-1].sequence + 1, 0
        return rows, None

    async def retry(self, pipeline: str) -> int:
        """Put all dead letters of a pipeline back into the log, for it alone; a crash in between repeats none of them."""
        count = 0
        state = await stream_state(self._client, DEAD)
        while page := await read_page(self._client, DEAD, f"{DEAD_PREFIX}{pipeline}", 0, 20):
            page = [stored for stored in page if stored.sequence <= int(state["last_seq"])]
            if not page:
                break
            for stored in page:
                letters = [letter for letter in unpack_letters(stored.payload) if letter.payload]
                for begin in range(0, len(letters), RETRIES):
                    part = letters[begin : begin + RETRIES]
                    await asyncio.gather(
                        *[self._put_back(pipeline, f"{stored.sequence}.{begin + at}", one) for at, one in enumerate(part)]
                    )
                count += sum(letter.messages for letter in letters)
                await self._forget(stored.sequence)
        return count

    async def _put_back(self, pipeline: str, name: str, letter: DeadLetter) -> None:
        tail = "window" if letter.window else to_subject(letter.topic)
        header = f"Nats-Msg-Id: retry.{name}\r\n".encode() + (WINDOW_HEADER if letter.window else b"")
        frame = await self._client.request(f"{RETRY_PREFIX}{pipeline}.{tail}".encode(), letter.payload, header)
        if "error" in json.loads(frame[3]):
            raise UnavailableError(f"the log takes no retries now: {json.loads(frame[3])['error'].get('description')}")

    async def drop(self, pipeline: str) -> int:
        """Forget all dead letters of a pipeline."""
        count = 0
        while page := await read_page(self._client, DEAD, f"{DEAD_PREFIX}{pipeline}", 0, 100):
            for stored in page:
                count += sum(letter.messages for letter in unpack_letters(stored.payload))
            await api(self._client, f"STREAM.PURGE.{DEAD}", {"filter": f"{DEAD_PREFIX}{pipeline}", "seq": page[-1].sequence + 1})
        return count

    async def _forget(self, sequence: int) -> None:
        await api(self._client, f"STREAM.MSG.DELETE.{DEAD}", {"seq": sequence, "no_erase": True})


def _place(token: str | None) -> tuple[int, int]:
    if token is None:
        return 0, 0
    sequence, dot, place = token.partition(".")
    if not dot or not sequence.isdigit() or not place.isdigit():
        raise RejectedError(f"{token!r} is no token of a page", mend="use `next` of the page before")
    return int(sequence), int(place)
