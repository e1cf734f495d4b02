"""What agent and historian say to each other: JSON lines down on stdin and up on stdout, and questions over a Unix socket.

A question and its answer are one frame each: the length (4 bytes, big-endian) and msgpack; one question a connection.
"""

import asyncio
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from skerry.core.errors import RejectedError, SkerryError, UnavailableError

MOST_POINTS = 100_000
"""Rows of one answer."""
_MOST_FRAME = 32 * MOST_POINTS + 1024 * 1024
_ANSWER_S = 30.0
T = TypeVar("T")


class Keeping(msgspec.Struct, frozen=True):
    """How long each level is kept, in microseconds."""

    raw: int
    minutes: int
    hours: int


class Assignment(msgspec.Struct, frozen=True):
    """All that a historian needs but for where the log is; the first line it reads.

    Attributes:
        pipelines: the configuration's tables of those with a history sink.
        topics: MQTT topic filters whose numbers are kept without a pipeline.
        directory, max_size: the store. socket: where questions are answered.
        max_series: further series are counted and left out.
    """

    directory: str
    max_size: str
    keep: Keeping
    socket: str
    pipelines: list[dict[str, Any]] = []
    topics: list[str] = []
    max_series: int = 10_000


class Place(msgspec.Struct, frozen=True, tag="place"):
    """A later line: where the log is, how to log in there, and the pipelines whose samples are rolled up and not kept for now."""

    host: str
    port: int
    user: str
    password: str
    thin: list[str] = []


class Order(msgspec.Struct, frozen=True, tag="order"):
    """A later line: something to be done once. Its number stands in the reports when it is done.

    Attributes:
        give_up: bytes of the oldest history that are to go; `levels`: of these only, in this order.
        copy: a new directory for a consistent copy of the store.
    """

    number: int
    give_up: int = 0
    levels: list[str] = []
    copy: str = ""


class Report(msgspec.Struct):
    """A line from the historian, about twice a second.

    Attributes:
        cursor: of the log, on the disk; -1 until it is known.
        caught_up: whether the log had nothing more for it a moment ago.
        samples: taken in since the start. passed_over: messages and samples that were not, by reason.
        series, bytes, limit: how many there are, and what they take on the disk.
        given_up: bytes of the oldest history that went since the disk was full.
        trouble: why it does not get on now.
        clock_doubted: the clock was set by more than an hour, which does not count yet for what is old.
        done, freed, failed: the number of the last order that was done, the bytes that went by it, and why it did not work.
    """

    cursor: int = -1
    caught_up: bool = False
    samples: int = 0
    passed_over: dict[str, int] = {}
    series: int = 0
    bytes: int = 0
    limit: int = 0
    given_up: int = 0
    trouble: str = ""
    clock_doubted: bool = False
    done: int = 0
    freed: int = 0
    failed: str = ""


class Question(msgspec.Struct, frozen=True, array_like=True):
    """Names of series (`name` empty: those with `prefix` behind `after`), or a page of one.

    Times in microseconds; `every` 0: the samples themselves."""

    name: str = ""
    start: int = 0
    end: int = 0
    every: int = 0
    aggregate: str = "mean"
    limit: int = 1000
    prefix: str = ""
    after: str = ""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """Names, or int64 times and float64 values as bytes; `following`: where the next page begins. `error`: sentence, where, mend.

    `known`: whether there is a series so named."""

    names: list[str] = []
    times: bytes = b""
    values: bytes = b""
    following: int | None = None
    known: bool = True
    error: tuple[str, str, str] | None = None


async def read_frame(reader: asyncio.StreamReader, kind: type[T]) -> T:
    """The next message. Raises `RejectedError` for what is none, `asyncio.IncompleteReadError` at the end."""
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > _MOST_FRAME:
        raise RejectedError(f"a frame of {size} bytes; {_MOST_FRAME} are allowed")
    try:
        return msgspec.msgpack.decode(await reader.readexactly(size), type=kind)
    except msgspec.MsgspecError as error:
        raise RejectedError(f"a frame that is no message: {error}") from error


def frame(message: Question | Answer) -> bytes:
    """A message as it goes over the socket."""
    packed = msgspec.msgpack.encode(message)
    return len(packed).to_bytes(4, "big") + packed


async def ask(socket: Path, question: Question) -> Answer:
    """The answer to one question. Raises `RejectedError`, `UnavailableError`."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            writer.write(frame(question))
            answer = await read_frame(reader, Answer)
    except TimeoutError as error:
        raise UnavailableError(f"the history has not answered within {_ANSWER_S:g} s", mend="ask for less, or try again") from error
    except (OSError, asyncio.IncompleteReadError) as error:
        raise UnavailableError("the history does not answer now", mend="try again in a moment") from error
    finally:
        if writer is not None:
            writer.close()
    if answer.error is not None:
        sentence, where, mend = answer.error
        raise RejectedError(sentence, where=where, mend=mend)
    return answer


def told(error: SkerryError) -> Answer:
    """An error as an answer."""
    return Answer(error=(error.message, error.where or "", error.mend or ""))
