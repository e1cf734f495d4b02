"""Reading what pipelines have put out: events in pages and as a stream, dead letters with their retry."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from skerry.broker import Stored, api, ends, read_page, sequence_at, stream_state, to_subject
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
    WINDOW_TAIL,
    DeadLetter,
    LetterFilter,
    key_token,
    letters_output,
    look_inside,
    show_letter,
    unpack_letters,
)

Row = dict[str, Any]
PAGE = 200
POLL_S = 0.2
RETRIES = 200
ALL = LetterFilter()
Act = Callable[[list[str], list[DeadLetter]], Awaitable[list[bool]]]
"""Names and letters → which of them went."""
_NO_ALARM = b'"alarm_id":null'
TOO_LARGE = 10054
"""JetStream's error code of a message over the stream's `max_msg_size`."""


def _events_subject(pipeline: str | None, key: str | None) -> str:
    return f"{EVENTS_PREFIX}{key_token(pipeline) if pipeline else '*'}.{key_token(key) if key is not None else '*'}"


def sequence_of(token: str, whole: str = "") -> int:
    """The place in a stream that a page's token stands for. Raises `RejectedError`, naming the whole of it."""
    if re.fullmatch("[0-9]{1,18}", token) is None:
        raise RejectedError(f"{(whole or token)[:80]!r} is no token of a page", mend="use `next` of the page before")
    return int(token)


class Outputs:
    """The event log and the dead letters, over the node's connection. Raises `UnavailableError` while there is none.

    Without a quorum what is shown is this node's copy."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._turn = asyncio.Lock()

    async def events(
        self, pipeline: str | None, key: str | None, since: int | None, limit: int, after: str | None
    ) -> tuple[list[Row], str | None]:
        """A page of events in the log's order, and the token of the next page, None at the end."""
        begin = sequence_of(after) if after is not None else 0
        if since is not None:
            first = await sequence_at(self._link.looking, EVENTS, to_rfc3339(since))
            if first is None:
                return [], None
            begin = max(begin, first - 1)
        page = await read_page(self._link.looking, EVENTS, _events_subject(pipeline, key), begin, limit)
        following = str(page[-1].sequence) if len(page) == limit else None
        return [json.loads(stored.payload) for stored in page], following

    async def last_events(self, pipeline: str | None, key: str | None, limit: int) -> tuple[list[Row], int]:
        """The last events, oldest first, and the log's end."""
        first, last = await self._ends()
        span, found = max(limit, PAGE), list[Stored]()
        while True:
            begin = max(first - 1, last - span)
            found = [stored async for stored in self._walk(_events_subject(pipeline, key), begin, last)]
            if len(found) >= limit or begin <= first - 1:
                return [json.loads(stored.payload) for stored in found[-limit:]], last
            span *= 4

    async def _ends(self) -> tuple[int, int]:
        """The event log's first and last sequence."""
        client = self._link.looking
        if client is self._link.copy:  # nobody leads the stream, who could be asked for its state
            return await ends(client, EVENTS)
        state = await stream_state(client, EVENTS)
        return int(state["first_seq"]), int(state["last_seq"])

    async def _walk(self, subject: str, after: int, through: int) -> AsyncIterator[Stored]:
        """Events behind one sequence and up to another: what comes meanwhile is for whoever reads on from there."""
        while page := await read_page(self._link.looking, EVENTS, subject, after, PAGE):
            after = page[-1].sequence
            for stored in page:
                if stored.sequence > through:
                    return
                yield stored

    async def event_stream(self, after: int | None, pipeline: str | None, key: str | None) -> AsyncIterator[tuple[int, Row]]:
        """Sequence and event, for ever: those after a sequence, or from now on; a connection lost is waited for."""
        subject = _events_subject(pipeline, key)
        while after is None:
            try:
                _, after = await self._ends()
            except UnavailableError:
                await asyncio.sleep(POLL_S)
        while True:
            try:
                page = await read_page(self._link.looking, EVENTS, subject, after, PAGE)
            except UnavailableError:
                await asyncio.sleep(POLL_S)
                continue
            for stored in page:
                after = stored.sequence
                yield after, json.loads(stored.payload)
            if not page:
                await self._link.bell.wait(POLL_S * 5)

    async def alarm_events(self, after: int) -> AsyncIterator[tuple[int, bytes | None]]:
        """Sequence and payload of events behind a sequence, up to the end; None for one that belongs to no alarm."""
        _, last = await self._ends()
        async for stored in self._walk(_events_subject(None, None), after, last):
            yield stored.sequence, None if _NO_ALARM in stored.payload else stored.payload

    async def deadletters(
        self, pipeline: str, limit: int, after: str | None, which: LetterFilter = ALL
    ) -> tuple[list[Row], str | None]:
        """A page of dead letters, oldest first; the token is `sequence.place`, since one message of the stream holds many.

        Those that were asked for by id are shown with what is inside."""
        begin, place = _place(after)
        rows: list[Row] = []
        show = look_inside if which.ids else show_letter
        while page := await read_page(self._link.looking, DEAD, f"{DEAD_PREFIX}{pipeline}", begin - 1 if begin else 0, 20):
            for stored in page:
                for at, letter in enumerate(unpack_letters(stored.payload)):
                    if (stored.sequence == begin and at < place) or not which.takes(letter):
                        continue
                    if len(rows) == limit:
                        return rows, f"{stored.sequence}.{at}"
                    rows.append({"id": letter.identity, **show(letter), "at": to_rfc3339(letter.arrival)})
            begin, place = page[-1].sequence + 1, 0
        return rows, None

    async def retry(self, pipeline: str, which: LetterFilter = ALL) -> int:
        """Put dead letters of a pipeline back into the log, for it alone; a crash in between repeats none of them.

        Kept is what cannot be put back: a letter without its payload, a window that is larger than the log takes.
        """

        async def put_back(names: list[str], letters: list[DeadLetter]) -> list[bool]:
            return await asyncio.gather(*[self._put_back(pipeline, *one) for one in zip(names, letters, strict=True)])

        return await self._each(pipeline, which, put_back)

    async def drop(self, pipeline: str, which: LetterFilter = ALL) -> int:
        """Forget dead letters of a pipeline."""
        if which.all:
            return await self._purge(pipeline)

        async def forget(_names: list[str], letters: list[DeadLetter]) -> list[bool]:
            return [True] * len(letters)

        return await self._each(pipeline, which, forget)

    async def _each(self, pipeline: str, which: LetterFilter, act: Act) -> int:
        """Do something with those of a pipeline; one at a time, since what is left of a message is stored anew."""
        count = after = 0
        async with self._turn:
            end = int((await stream_state(self._link.reading, DEAD))["last_seq"])
            while after < end and (page := await read_page(self._link.reading, DEAD, f"{DEAD_PREFIX}{pipeline}", after, 20)):
                after = page[-1].sequence
                for stored in page:
                    if stored.sequence <= end:
                        count += await self._those_of(pipeline, stored, which, act)
        return count

    async def _those_of(self, pipeline: str, stored: Stored, which: LetterFilter, act: Act) -> int:
        """Those of one message of the stream; how many messages of devices went with them."""
        letters = unpack_letters(stored.payload)
        wanted = [at for at, letter in enumerate(letters) if which.takes(letter)]
        gone: set[int] = set()
        for begin in range(0, len(wanted), RETRIES):
            part = wanted[begin : begin + RETRIES]
            went = await act([f"{stored.sequence}.{at}" for at in part], [letters[at] for at in part])
            gone |= {at for at, done in zip(part, went, strict=True) if done}
        if not gone:
            return 0
        kept = [letter for at, letter in enumerate(letters) if at not in gone]
        if kept:
            output = letters_output(pipeline, kept)
            await self._store(output.subject, output.payload, f"kept.{stored.sequence}".encode())
        await self._forget(stored.sequence)
        return sum(letters[at].messages for at in gone)

    async def _put_back(self, pipeline: str, name: str, letter: DeadLetter) -> bool:
        if not letter.payload:
            return False
        tail = WINDOW_TAIL if letter.window else to_subject(letter.topic)
        header = WINDOW_HEADER if letter.window else b""
        return await self._store(f"{RETRY_PREFIX}{pipeline}.{tail}", letter.payload, f"retry.{name}".encode(), header)

    async def _store(self, subject: str, payload: bytes, name: bytes, header: bytes = b"") -> bool:
        """Store once under a name; False when it is too large."""
        frame = await self._link.reading.request(subject.encode(), payload, b"Nats-Msg-Id: %s\r\n" % name + header)
        error = json.loads(frame[3]).get("error")
        if error and error.get("err_code") != TOO_LARGE:
            raise UnavailableError(f"the log takes no retries now: {error.get('description')}")
        return not error

    async def _purge(self, pipeline: str) -> int:
        count, subject = 0, f"{DEAD_PREFIX}{pipeline}"
        while page := await read_page(self._link.reading, DEAD, subject, 0, 100):
            for stored in page:
                count += sum(letter.messages for letter in unpack_letters(stored.payload))
            await api(self._link.reading, f"STREAM.PURGE.{DEAD}", {"filter": subject, "seq": page[-1].sequence + 1})
        return count

    async def _forget(self, sequence: int) -> None:
        await api(self._link.reading, f"STREAM.MSG.DELETE.{DEAD}", {"seq": sequence, "no_erase": True})


def _place(token: str | None) -> tuple[int, int]:
    if token is None:
        return 0, 0
    sequence, _, place = token.partition(".")
    return sequence_of(sequence, token), sequence_of(place, token)
