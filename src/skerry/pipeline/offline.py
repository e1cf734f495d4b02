"""A pipeline over a file, without a node: the same runner, the file in the place of the log; deterministic byte for byte."""

import base64
import csv
import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import cbor2
import msgspec

from skerry.broker import Frame, position, to_subject
from skerry.core.clock import from_number, from_rfc3339
from skerry.core.errors import ConfigError, RejectedError
from skerry.core.ports import Scorer
from skerry.pipeline.decode import LAST_TIME, Undecoded, decoder
from skerry.pipeline.event import DEAD_PREFIX, EVENTS_PREFIX, DeadLetter, show_letter, unpack_letters
from skerry.pipeline.runner import Runner
from skerry.pipeline.spec import PipelineSpec
from skerry.pipeline.state import PipelineState, books
from skerry.pipeline.topics import MQTT_PREFIX, filter_matches

Message = tuple[str, bytes, int | None]
"""topic, payload, arrival in microseconds or None where the file does not say."""
CHUNK = 500
_LINE = 'one line is {"topic": …, "payload": …, "at": …}'
_BODIES = ("payload", "payload_base64", "payload_file")
"""Where a message's payload is: in the row, in base64 as dead letters show it, or in a file beside the JSONL file."""


def run_file(spec: PipelineSpec, scorer: Scorer | None, node: str, path: Path) -> dict[str, Any]:
    """Run a pipeline over a JSONL, CSV or Parquet file.

    Answers `{"events": […], "messages", "windows", "late", "dead_letters": […]}`; the end of the file closes all windows.
    Raises `RejectedError` for a file that is none of these.
    """
    return run_messages(spec, scorer, node, read_messages(spec, path))


def run_messages(spec: PipelineSpec, scorer: Scorer | None, node: str, messages: Iterator[Message]) -> dict[str, Any]:
    """Run a pipeline over messages that did not come from a log."""
    runner = Runner(spec, scorer, node, PipelineState())
    frames = frames_of(spec, messages)
    while part := list(islice(frames, CHUNK)):
        runner.feed(part, position(part[0][1]), position(part[-1][1]), 0.0)
    runner.finish()
    return _answer(runner)


def frames_of(spec: PipelineSpec, messages: Iterable[Message]) -> Iterator[Frame]:
    """Messages on the pipeline's topic as a log would hand them on, numbered from 1."""
    event_time = _event_time(spec)
    for number, (topic, payload, arrival) in enumerate(messages, start=1):
        if filter_matches(spec.source.topic, topic):
            yield frame_of(topic, payload, event_time(payload) if arrival is None else arrival, number)


def frame_of(topic: str, payload: bytes, arrival: int, number: int) -> Frame:
    """A message as a log would hand it on; its arrival in microseconds."""
    reply = f"$JS.ACK.file.file.1.{number}.{number}.{arrival * 1000}.0".encode()
    return (MQTT_PREFIX + to_subject(topic)).encode(), reply, b"", payload


def _answer(runner: Runner) -> dict[str, Any]:
    events: list[Any] = []
    letters: list[DeadLetter] = []
    for output in runner.outputs:
        if output.subject.startswith(EVENTS_PREFIX):
            events.append(json.loads(output.payload))
        elif output.subject.startswith(DEAD_PREFIX):
            letters += unpack_letters(output.payload)
    ledger = runner.state.ledger
    return {
        "events": events,
        "messages": ledger.received,
        "windows": ledger.windows,
        "late": ledger.dead.get("late", 0),
        "dead_letters": [show_letter(letter) for letter in letters],
        "ledger": books(runner.state),
    }


def read_messages(spec: PipelineSpec, path: Path) -> Iterator[Message]:
    """The messages of a recorded file. Raises `RejectedError` with the line."""
    if not path.is_file():
        raise RejectedError("the file does not exist", where=str(path))
    if path.suffix == ".csv":
        yield from _read_csv(spec, path)
    elif path.suffix == ".parquet":
        yield from _read_parquet(spec, path)
    elif path.suffix in (".jsonl", ".ndjson", ".json"):
        yield from _read_jsonl(spec, path)
    else:
        raise RejectedError(f"{path.suffix or 'no ending'} is not known", where=str(path), mend="use .jsonl, .csv or .parquet")


def _read_jsonl(spec: PipelineSpec, path: Path) -> Iterator[Message]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
                raise RejectedError(f"is not JSON: {why}", where=where, mend=_LINE) from error
            yield _from_message(spec, row, where, path.parent)


def _from_message(spec: PipelineSpec, row: Any, where: str, folder: Path = Path()) -> Message:
    """One `{"topic", "payload", "at"?}`, or with `payload_base64` or `payload_file` (relative to the folder) in its place."""
    if (
        not isinstance(row, Mapping)
        or not isinstance(row.get("topic"), str)
        or sum(body in row for body in _BODIES) != 1
    ):  # fmt: skip
        raise RejectedError("is not a message", where=where, mend=_LINE)
    at = row.get("at")
    moment = None if at is None else _moment(at, where)
    if "payload" in row:
        return _topic(row["topic"], where), _payload(spec, row["payload"], where), moment
    return _topic(row["topic"], where), _stored_payload(spec, row, where, folder), moment


def _stored_payload(spec: PipelineSpec, row: Mapping[str, Any], where: str, folder: Path) -> bytes:
    if "payload_base64" in row:
        return _payload(spec, f"base64:{row['payload_base64']}", where)
    try:
        with (folder / str(row["payload_file"])).open("rb") as file:
            return file.read(spec.source.max_payload_bytes + 1)  # one more is enough to be a dead letter
    except (OSError, ValueError) as error:
        raise RejectedError(f"{row['payload_file']!r} cannot be read: {error}", where=where) from error


def _topic(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RejectedError(f"{text!r} is not a topic: {error.reason}", where=where) from error
    return text


def read_rows(spec: PipelineSpec, rows: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
    """Messages out of rows: those with a `topic` are messages, others samples of a `device`. Raises `RejectedError`."""
    for number, row in enumerate(rows, start=1):
        where = f"row {number}"
        if not isinstance(row, Mapping):
            raise RejectedError(f"is no row: {type(row).__name__}", where=where, mend=_LINE)
        if "topic" in row:
            yield _from_message(spec, row, where)
            continue
        _check_columns(spec, list(row), where)
        yield _from_row(spec, row, where)


def _payload(spec: PipelineSpec, payload: Any, where: str) -> bytes:
    """An object in the source's format; bytes and a string as they are (`base64:…` for bytes in a file)."""
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, str) and payload.startswith("base64:"):
        try:
            return base64.b64decode(payload.removeprefix("base64:"), validate=True)
        except ValueError as error:
            raise RejectedError("payload is not base64", where=where) from error
    try:
        return _packed(spec, payload)
    except (ValueError, TypeError, OverflowError, RecursionError, cbor2.CBOREncodeError) as error:
        raise RejectedError(f"payload cannot be sent as {spec.source.format}: {error}", where=where) from error


def _packed(spec: PipelineSpec, payload: Any) -> bytes:
    if isinstance(payload, str):
        return payload.encode()
    if spec.source.format == "image":
        raise ValueError("a picture is bytes, base64 (payload_base64) or a file (payload_file)")
    if spec.source.format == "msgpack":
        return msgspec.msgpack.encode(payload)
    if spec.source.format == "cbor":
        return bytes(cbor2.dumps(payload))
    if spec.source.format == "text":
        return str(payload).encode()
    return json.dumps(payload).encode()


def _moment(value: Any, where: str) -> int:
    try:
        moment = _microseconds(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise RejectedError(f"{value!r} is not a time", where=where, mend="Unix seconds, ms, or RFC 3339") from error
    if not 0 <= moment < LAST_TIME:
        raise RejectedError(f"{value!r} is not a time of 1970 to 5138", where=where, mend="Unix seconds, ms, or RFC 3339")
    return moment


def _microseconds(value: Any) -> int:
    if isinstance(value, datetime):
        return from_rfc3339(value.isoformat())
    if isinstance(value, str):
        try:
            return from_number(float(value))
        except ValueError:
            return from_rfc3339(value.strip())
    return from_number(float(value))


def _event_time(spec: PipelineSpec) -> Callable[[bytes], int]:
    """Where the file does not say when a message arrived: at its own time, so that none is from the future."""
    decode = decoder(spec.source)

    def newest(payload: bytes) -> int:
        try:
            return int(max(row[0] for row in decode(payload)[0]))
        except Undecoded:
            return 0

    return newest if spec.source.time else lambda payload: 0


def _read_csv(spec: PipelineSpec, path: Path) -> Iterator[Message]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        line = 0
        try:
            first = file.readline(4096)
            file.seek(0)
            lines = csv.reader(file, delimiter=";" if first.count(";") > first.count(",") else ",")
            names = next(lines, [])
            _check_columns(spec, names, str(path))
            for cells in lines:
                line = lines.line_num
                if cells:
                    yield _from_cells(spec, names, cells, f"{path}:{line}")
        except UnicodeDecodeError as error:
            raise RejectedError(f"is not text: {error}", where=str(path), mend="write it in UTF-8") from error
        except csv.Error as error:
            raise RejectedError(str(error), where=f"{path}:{line + 1}") from error


def _from_cells(spec: PipelineSpec, names: list[str], cells: list[str], where: str) -> Message:
    if len(cells) != len(names):
        raise RejectedError(f"has {len(cells)} cells, the first line has {len(names)}", where=where)
    return _from_row(spec, dict(zip(names, cells, strict=True)), where)


def _read_parquet(spec: PipelineSpec, path: Path) -> Iterator[Message]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise RejectedError("Parquet needs pyarrow", where=str(path), mend="pip install 'skerry[parquet]'") from error
    try:
        file = parquet.ParquetFile(path)
    except Exception as error:
        raise RejectedError(f"is not a Parquet file: {error}", where=str(path)) from error
    _check_columns(spec, file.schema_arrow.names, str(path))
    number = 0
    batches = file.iter_batches(10_000)
    while rows := _next_rows(batches, f"{path}: after row {number}"):
        for row in rows:
            number += 1
            yield _from_row(spec, row, f"{path}: row {number}")


def _next_rows(batches: Iterator[Any], where: str) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = next(batches).to_pylist()
    except StopIteration:
        return []
    except Exception as error:
        raise RejectedError(f"cannot be read: {error}", where=where) from error
    return found


def _check_columns(spec: PipelineSpec, names: Sequence[str], where: str) -> None:
    if spec.source.tensors:
        raise RejectedError(f"rows of numbers are no {spec.source.format}", where=where, mend=f"use .jsonl: {_LINE}")
    wanted = ["device", *([spec.source.time] if spec.source.time else []), *spec.source.names]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise RejectedError(f"has no column {', '.join(missing)}", where=where, mend=f"the pipeline reads {', '.join(wanted)}")


def _from_row(spec: PipelineSpec, row: Mapping[str, Any], where: str) -> Message:
    """One row as the message that its device would have sent."""
    topic = _device_topic(spec, str(row["device"]), where)
    names = spec.source.names
    numbers = [_number(row[name], where, name) for name in names]
    moment = _moment(row[spec.source.time], where) if spec.source.time else None
    if spec.source.format == "float32":
        return topic, struct.pack(f"<{len(numbers)}f", *[math.nan if n is None else n for n in numbers]), moment
    if spec.source.format == "text":
        return topic, " ".join(map(repr, numbers)).encode(), moment
    item: dict[str, Any] = {}
    for name, number in zip(names, numbers, strict=True):
        _put(item, name, number)
    if spec.source.time:
        assert moment is not None
        _put(item, spec.source.time, moment / 1e6)
    return topic, _payload(spec, item, where), moment


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value


def _number(value: Any, where: str, name: str) -> float | None:
    """A cell as a number; an empty one is a value that the device did not send."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise RejectedError(f"{name} is {value!r}, not a number", where=where) from error


def _device_topic(spec: PipelineSpec, device: str, where: str) -> str:
    """A topic of the source's filter whose key is the device, where the key is one level of the topic."""
    levels = spec.source.topic.split("/")
    template = spec.source.key
    if not (template.startswith("{") and template.endswith("}") and template[1:-1].isdigit()):
        raise ConfigError(
            f"rows name a device, but the key {template!r} is not one level of the topic", where="source.key",
            mend="use a JSONL file with topics",
        )  # fmt: skip
    at = int(template[1:-1]) - 1
    if levels[-1] == "#":
        levels[-1:] = ["x"] * max(1, at - len(levels) + 2)
    topic = "/".join(device if place == at else "x" if level == "+" else level for place, level in enumerate(levels))
    if "/" in device or not filter_matches(spec.source.topic, topic):
        raise RejectedError(f"{device!r} is no device of {spec.source.topic}", where=where)
    return _topic(topic, where)
