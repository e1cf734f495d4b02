"""Files that grow, are rotated, emptied and replaced while they are read: every whole line once in the log, in order."""

import asyncio
import os
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from skerry.connector import Message, parse_connector
from skerry.core.errors import ConfigError, UnavailableError
from tests.connector.contract import check_source, opened, take
from tests.connector.rig import payloads, prepared, working
from tests.fixtures.nats import NatsServer, until

pytestmark = pytest.mark.asyncio


def table(path: str = "line.jsonl", **more: Any) -> dict[str, Any]:
    return {"name": "press", "kind": "file", "path": path, "topic": "devices/{name}/log", "poll": "50ms", **more}


def append(path: Path, *texts: str) -> None:
    with path.open("a") as file:
        file.write("".join(texts))


def lines(begin: int, end: int) -> str:
    return "".join(f'{{"n":{number}}}\n' for number in range(begin, end))


async def read_all(given: dict[str, Any], base: Path, count: int, cursor: bytes = b"") -> tuple[list[Message], bytes]:
    return await take(opened(given, base), cursor, count, settled=True)


async def test_a_source_by_the_contract(tmp_path: Path) -> None:
    async def say(number: int) -> None:
        append(tmp_path / "line.jsonl", f'{{"n":{number}}}\n')

    found = await check_source(table(), tmp_path, say)
    assert {each.payload for each in found} >= {b'{"n":1}', b'{"n":2}'}
    assert {each.topic for each in found} == {"devices/press/log"}


async def test_rotation_by_rename_while_it_is_written_and_the_process_ends(server: NatsServer, tmp_path: Path) -> None:
    client = await prepared(server)
    log = tmp_path / "line.jsonl"

    async def there(count: int) -> bool:
        return len(await payloads(client)) >= count

    async with working([table()], server, tmp_path):
        append(log, lines(0, 700))
        await until(lambda: there(700), 30)
        append(log, lines(700, 800))
        log.rename(tmp_path / "line.jsonl.1")
        append(tmp_path / "line.jsonl.1", lines(800, 810))
        append(log, lines(810, 900))
        await until(lambda: there(900), 30)
    append(log, lines(900, 950))
    log.rename(tmp_path / "line.jsonl.2")
    append(log, lines(950, 1000), '{"n":')
    async with working([table()], server, tmp_path):
        await until(lambda: there(1000), 30)
        append(log, "1000}\n")
        await until(lambda: there(1001), 30)
    assert await payloads(client) == [b'{"n":%d}' % number for number in range(1001)]
    client.close()


async def test_a_file_that_was_emptied_or_replaced_begins_again(tmp_path: Path) -> None:
    log = tmp_path / "line.jsonl"
    append(log, lines(0, 3))
    _, cursor = await read_all(table(), tmp_path, 3)
    with log.open("w") as file:  # copytruncate
        file.write(lines(10, 11))
    found, cursor = await read_all(table(), tmp_path, 1, cursor)
    assert [each.payload for each in found] == [b'{"n":10}']
    with log.open("w") as file:  # the same length and more, and other words
        file.write(lines(20, 25))
    found, _ = await read_all(table(), tmp_path, 5, cursor)
    assert [each.payload for each in found] == [b'{"n":%d}' % number for number in range(20, 25)]


async def test_csv_with_its_columns_over_a_restart(tmp_path: Path) -> None:
    sheet = tmp_path / "run.csv"
    append(sheet, "\ufeffts,line, temp ,note\r\n", '1,a/b,21.5,"x, y"\r\n', "2,c,,\r\n", "3,d\r\n")
    given = table("run.csv", topic="devices/{.line}/{file}")
    found, cursor = await read_all(given, tmp_path, 2)
    assert [(each.topic, each.payload) for each in found] == [
        ("devices/a_b/run", b'{"ts":1,"line":"a/b","temp":21.5,"note":"x, y"}'),
        ("devices/c/run", b'{"ts":2,"line":"c","temp":null,"note":null}'),
    ]
    append(sheet, "4,e,-1e3,z\n")
    found, _ = await read_all(given, tmp_path, 1, cursor)
    assert found[0].payload == b'{"ts":4,"line":"e","temp":-1000.0,"note":"z"}'


async def test_what_is_no_row_is_counted(tmp_path: Path) -> None:
    append(tmp_path / "run.csv", "a,b\n1,2,3\n,1\n1,2\n")
    append(tmp_path / "long.jsonl", "x" * 1_100_000 + '\n{"n":1}\n')
    source = opened(table("run.csv", topic="devices/{.a}/x"), tmp_path)
    found, _ = await take(source, b"", 1, settled=False)
    assert [each.payload for each in found] == [b'{"a":1,"b":2}']
    assert source.dropped == {"not as many cells as columns": 1, "no topic for it": 1}
    found, _ = await read_all(table("long.jsonl"), tmp_path, 1)
    assert len(found) == 1


async def test_a_directory_is_watched(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    given = table("inbox/*.jsonl", topic="devices/{file}/log")
    with pytest.raises(UnavailableError, match="there is no such directory; make it"):
        await opened(given, tmp_path).test()
    inbox.mkdir()
    append(inbox / "a.jsonl", lines(0, 2))
    append(inbox / "b.txt", lines(0, 2))
    os.utime(inbox / "a.jsonl", (1, 1))
    assert "1 file can be read" in await opened(given, tmp_path).test()
    found, cursor = await read_all(given, tmp_path, 2)
    append(inbox / "c.jsonl", lines(2, 3))
    (inbox / "a.jsonl").unlink()
    more, cursor = await read_all(given, tmp_path, 1, cursor)
    assert [each.topic for each in [*found, *more]] == ["devices/a/log", "devices/a/log", "devices/c/log"]
    assert cursor.count(b"[") == 3, "one that is gone takes no place in the cursor"


async def test_only_what_comes_from_now_on(tmp_path: Path) -> None:
    append(tmp_path / "run.csv", "a\n1\n2\n")
    given = table("run.csv", begin="end")
    source = opened(given, tmp_path)
    async with aclosing(source.read(b"")) as batches:
        assert list((await anext(batches)).messages) == []
        append(tmp_path / "run.csv", "3\n")
        append(tmp_path / "other.csv", "a\n9\n")
        async with asyncio.timeout(20):
            while not (messages := (await anext(batches)).messages):
                pass
    assert [each.payload for each in messages] == [b'{"a":3}']


async def test_ids_tell_a_line_that_comes_twice(server: NatsServer, tmp_path: Path) -> None:
    append(tmp_path / "line.jsonl", lines(0, 5))
    first, _ = await read_all(table(), tmp_path, 5)
    again, _ = await read_all(table(), tmp_path, 5)
    assert [each.id for each in first] == [each.id for each in again]
    assert len({each.id for each in first}) == 5


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"path": "*/x.csv"}, r"c.path: '\*/x.csv' is no file"),
        ({"path": "x.log"}, "c.format: say what the lines are; allowed: csv, jsonl"),
        ({"poll": "1ms"}, "c.poll: 1ms is out of range"),
        ({"topic": "devices/{nme}"}, r"c.topic: \{nme\} is not known"),
        ({"begin": "middle"}, "c.begin: 'middle' is not known"),
    ],
)
async def test_what_is_wrong_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_connector({**table(), **change}, "c")


async def test_a_name_without_a_known_end_has_its_format(tmp_path: Path) -> None:
    append(tmp_path / "x.log", lines(1, 2))
    found, _ = await read_all(table("x.log", format="jsonl"), tmp_path, 1)
    assert found[0].payload == b'{"n":1}'
