"""Frames between agent and historian: what went in comes out, rubbish is refused, and errors keep their sentence."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from skerry.core.errors import RejectedError, UnavailableError
from skerry.historian.protocol import Answer, Assignment, Question, Report, ask, frame, read_frame, told
from tests.historian.rig import assigned

pytestmark = pytest.mark.asyncio


def stream(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


@pytest.mark.parametrize("question", [Question(), Question("a/b/c", 1, -2, 60, "p99", 7, "pre", "af")])
async def test_a_frame_comes_out_as_it_went_in(question: Question) -> None:
    assert await read_frame(stream(frame(question)), Question) == question


@pytest.mark.parametrize("data", [b"\0\0\0\x02\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\x01\xc0"])
async def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(RejectedError):
        await read_frame(stream(data), Question)


async def test_half_a_frame_is_an_end() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        await read_frame(stream(frame(Question("a"))[:-1]), Question)


async def test_assignments_and_reports_are_json_lines(tmp_path: Path) -> None:
    given = assigned(tmp_path, topics=["a/#"])
    assert msgspec.json.decode(msgspec.json.encode(given), type=Assignment) == given
    line = msgspec.json.encode(Report(cursor=3, passed_over={"nan": 1}))
    assert b"\n" not in line
    assert json.loads(line)["cursor"] == 3


@pytest_asyncio.fixture
async def silent(tmp_path: Path) -> AsyncIterator[Path]:
    """A socket whose other end hangs up."""
    server = await asyncio.start_unix_server(lambda _, writer: writer.close(), str(tmp_path / "s"))
    yield tmp_path / "s"
    server.close()


async def test_nobody_there_is_said(tmp_path: Path, silent: Path) -> None:
    for place in (tmp_path / "none", silent):
        with pytest.raises(UnavailableError, match="does not answer now"):
            await ask(place, Question())


async def test_an_error_keeps_its_sentence_its_place_and_its_mend(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_frame(reader, Question)
        writer.write(frame(told(RejectedError("no", where="agg", mend="mean"))))
        writer.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "s"))
    with pytest.raises(RejectedError) as caught:
        await ask(tmp_path / "s", Question())
    assert (caught.value.message, caught.value.where, caught.value.mend) == ("no", "agg", "mean")
    assert told(caught.value) == Answer(error=("no", "agg", "mean"))
    server.close()
