"""Answers over a socket: names, pages, what is made of samples, errors, and a bounded number at a time."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from skerry.core.errors import RejectedError
from skerry.historian import answers as answers_module
from skerry.historian.answers import Answers
from skerry.historian.protocol import Answer, Question, ask
from tests.historian.rig import BEGIN, NOW, SECOND, filled

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Path]:
    with filled(tmp_path / "history") as archive:
        found = Answers(archive)
        await found.listen(tmp_path / "h.sock")
        yield tmp_path / "h.sock"
        await found.close()


def columns(answer: Answer) -> tuple[list[int], list[float]]:
    return np.frombuffer(answer.times, np.int64).tolist(), np.frombuffer(answer.values, np.float64).tolist()


async def test_names_in_pages(socket: Path) -> None:
    assert (await ask(socket, Question())).names == ["a/v/x", "b/v/x"]
    assert (await ask(socket, Question(limit=1))).names == ["a/v/x"]
    assert (await ask(socket, Question(after="a/v/x"))).names == ["b/v/x"]
    assert (await ask(socket, Question(prefix="b/"))).names == ["b/v/x"]


async def test_samples_in_pages(socket: Path) -> None:
    begin: int | None = BEGIN
    times: list[int] = []
    while begin is not None:
        answer = await ask(socket, Question("a/v/x", begin, NOW, limit=1000))
        times += columns(answer)[0]
        begin = answer.following
    assert times == [BEGIN + at * SECOND for at in range(3600)]


async def test_one_number_a_stretch(socket: Path) -> None:
    answer = await ask(socket, Question("b/v/x", BEGIN, NOW, 60 * SECOND, "count"))
    assert columns(answer) == ([BEGIN + 60 * SECOND * at for at in range(60)], [6.0] * 60)
    assert answer.following is None


async def test_an_unknown_series_is_told_from_an_empty_stretch(socket: Path) -> None:
    assert not (await ask(socket, Question("c", 0, NOW))).known
    empty = await ask(socket, Question("a/v/x", 0, 1000))
    assert empty.known
    assert columns(empty) == ([], [])


async def test_wrong_questions_get_a_sentence(socket: Path) -> None:
    with pytest.raises(RejectedError, match="unknown aggregate 'median'"):
        await ask(socket, Question("a/v/x", BEGIN, NOW, 60 * SECOND, "median"))
    reader, writer = await asyncio.open_unix_connection(str(socket))
    writer.write(b"\xff" * 8)
    assert b"are allowed" in await reader.read()
    writer.close()


async def test_nobody_else_may_ask(socket: Path) -> None:
    assert stat.S_IMODE(os.stat(socket).st_mode) == 0o600  # noqa: PTH116 - of a file that is there


async def test_more_than_it_may_hold_are_refused(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "MOST_CONNECTIONS", 1)
    _, idle = await asyncio.open_unix_connection(str(socket))
    await asyncio.sleep(0.05)
    with pytest.raises(RejectedError, match="too many questions"):
        await ask(socket, Question())
    idle.close()
    await asyncio.sleep(0.05)
    assert (await ask(socket, Question())).names
