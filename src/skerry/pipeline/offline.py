"""A pipeline over a file, without a node: the same runner, the file in the place of the log; deterministic byte for byte."""

import base64
import csv
import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import cbor2
import msgspec

from skerry.broker import Frame, position, to_subject
from skerry.core.clock import from_number, from_rfc3339
from skerry.core.errors import ConfigError, RejectedError
from skerry.core.ports import Scorer
from skerry.pipeline.decode import Undecoded, decoder
from skerry.pipeline.event import DEAD_PREFIX, EVENTS_PREFIX, DeadLetter, show_letter, unpack_letters
from skerry.pipeline.runner import Runner
from skerry.pipeline.spec import PipelineSpec
from skerry.pipeline.state import PipelineState, books
from skerry.pipeline.topics import MQTT_PREFIX, filter_matches

Message = tuple[str, bytes, int | None]
"""topic, payload, arrival in microseconds or None where the file does not say."""
CHUNK = 500
_LINE = 'one line is {"topic": …, "payload": …, "at": …}'


def run_file(spec: PipelineSpec, scorer: Scorer | None, node: str, path: Path) -> dict[str, Any]:
    """Run a pipeline over a JSONL, CSV or Parquet file.

    Answers `{"events": […], "messages", "windows", "late", "dead_letters": […]}`; the end of the file closes all windows.
    Raises `RejectedError` for a file that is none of these.
    """
    return run_messages(spec, scorer, node, read_messages(spec, path))


def run_messages(spec: PipelineSpec, scorer: Scorer | None, node: str, messages: Iterator[Message]) -> dict[str, Any]:
    """Run a pipeline over messages that did not come from a log."""
    runner = Runner(spec, scorer, node, PipelineState())
    frames: list[Frame] = []
    event_time = _event_time(spec)
    for number, (topic, payload, arrival) in enumerate(messages, start=1):
        if not filter_matches(spec.source.topic, topic):
            continue
        if arrival is None:
            arrival = event_time(payload)
        reply = f"$JS.ACK.file.file.1.{number}.{number}.{arrival * 1000}.0".encode()
        frames.append(((MQTT_PREFIX + to_subject(topic)).encode(), reply, b"", payload))
        if len(frames) == CHUNK:
            _feed(runner, frames)
            frames = []
    if frames:
        _feed(runner, frames)
    runner.finish()
    return _answer(runner)


def _feed(runner: Runner, frames: list[Frame]) -> None:
    runner.feed(frames, position(frames[0][1]), position(frames[-1][1]), 0.0)


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
            except ValueError as error:
                raise RejectedError(f"is not JSON: {error}", where=where, mend=_LINE) from error
            yield _from_message(spec, row, where)


def _from_message(spec: PipelineSpec, row: Any, where: str) -> Message:
    """One `{"topic", "payload", "at"?}`."""
    if not isinstance(row, Mapping) or not isinstance(row.get("topic"), str) or "payload" not in row:
        raise RejectedError("is not a message", where=where, mend=_LINE)
    at = row.get("at")
    return row["topic"], _payload(spec, row["payload"], where), None if at is None else _moment(at, where)


def read_rows(spec: PipelineSpec, rows: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
    """Messages out of rows: those with a `topic` are messages, others samples of a `device`. Raises `RejectedError`."""
    for number, row in enumerate(rows, start=1):
        where = f"row {number}"
        if "topic" in row:
            yield _from_message(spec, row, where)
            continue
        _check_columns(spec, list(row), where)
        yield _from_row(spec, row, where)


def _payload(spec: PipelineSpec, payload: Any, where: str) -> bytes:
    """An object in the source's format; a string as it is (`base64:…` for bytes)."""
    if isinstance(payload, str):
        if payload.startswith("base64:"):
            try:
                return base64.b64decode(payload.removeprefix("base64:"), validate=True)
            except ValueError as error:
                raise RejectedError("payload is not base64", where=where) from error
        return payload.encode()
    if spec.source.format == "msgpack":
        return msgspec.msgpack.encode(payload)
    if spec.source.format == "cbor":
        return bytes(cbor2.dumps(payload))
    if spec.source.format == "text":
        return str(payload).encode()
    return json.dumps(payload).encode()


def _moment(value: Any, where: str) -> int:
    try:
        if isinstance(value, datetime):
            return from_rfc3339(value.isoformat())
        if isinstance(value, str):
            try:
                return from_number(float(value))
            except ValueError:
                return from_rfc3339(value.strip())
        return from_number(float(value))
    except (ValueError, TypeError, OverflowError) as error:
        raise RejectedError(f"{value!r} is not a time", where=where, mend="Unix seconds, ms, or RFC 3339") from error


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
        sample = file.read(4096)
        file.seek(0)
        delimiter = ";" if sample.split("\n", 1)[0].count(";") > sample.split("\n", 1)[0].count(",") else ","
        rows = csv.DictReader(file, delimiter=delimiter)
        _check_columns(spec, rows.fieldnames or [], str(path))
        for number, row in enumerate(rows, start=2):
            yield _from_row(spec, row, f"{path}:{number}")


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
    for batch in file.iter_batches(10_000):
        for row in batch.to_pylist():
            number += 1
            yield _from_row(spec, row, f"{path}: row {number}")


def _check_columns(spec: PipelineSpec, names: Sequence[str], where: str) -> None:
    wanted = ["device", *([spec.source.time] if spec.source.time else []), *spec.source.names]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise RejectedError(f"has no column {', '.join(missing)}", where=where, mend=f"the pipeline reads {', '.join(wanted)}")


def _from_row(spec: PipelineSpec, row: Mapping[str, Any], where: str) -> Message:
    """One row as the message that its device would have sent."""
    topic = _device_topic(spec, str(row["device"]))
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


def _device_topic(spec: PipelineSpec, device: str) -> str:
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
    levels[at] = device
    return "/".join("x" if level == "+" else level for level in levels)
