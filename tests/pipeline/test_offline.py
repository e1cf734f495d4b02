"""Pipelines over files: what a file says decides the events, not how it is written, and what is wrong has its line."""

import json
import os
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from skerry.core.errors import ConfigError, RejectedError, SkerryError
from skerry.pipeline import PipelineSpec, parse_pipeline, read_messages, read_rows, run_file, run_messages

Sample = dict[str, Any]
SOURCE = {"topic": "devices/+/level", "format": "json", "time": "ts", "values": ["h", "t"]}
WINDOW = {"kind": "tumbling", "size": "1s", "lateness": "500ms"}
RULE = {"field": "h_max", "above": 50.0, "clear_below": 20.0}


def made(source: Sample | None = None, **more: Any) -> PipelineSpec:
    table = {"name": "p", "source": {**SOURCE, **(source or {})}, "window": WINDOW, "features": ["mean", "max", "std"], **more}
    return parse_pipeline(table, "pipelines[0]")


def samples(count: int = 400) -> list[Sample]:
    """Two devices, ten readings a second, some of them late or with awkward numbers."""
    found = []
    for at in range(count):
        time = 1_700_000_000 + at * 0.1 - (3.0 if at % 97 == 96 else 0.0)
        found.append({"device": f"d{at % 2}", "ts": round(time, 6), "h": (at * 37 % 101) + 0.1, "t": -at / 7})
    return found


def as_csv(path: Path, rows: list[Sample], mark: str = ",") -> Path:
    names = list(rows[0])
    lines = [mark.join(names)] + [mark.join("" if row[name] is None else str(row[name]) for name in names) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def as_jsonl(path: Path, rows: list[Sample]) -> Path:
    lines = []
    for row in rows:
        payload = {name: value for name, value in row.items() if name != "device"}
        lines.append(json.dumps({"topic": f"devices/{row['device']}/level", "payload": payload}))
    path.write_text("\n".join(lines) + "\n")
    return path


def as_parquet(path: Path, rows: list[Sample]) -> Path:
    parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=37)
    return path


def run(spec: PipelineSpec, path: Path) -> dict[str, Any]:
    return run_file(spec, None, "box", path)


def packed(answer: dict[str, Any], *but: str) -> bytes:
    return msgspec.json.encode({name: value for name, value in answer.items() if name not in but})


@pytest.mark.parametrize("more", [{}, {"rule": RULE}, {"window": {"kind": "count", "size": 7}}, {"window": {"kind": "none"}}])
def test_the_same_rows_give_the_same_answer_in_every_format(tmp_path: Path, more: Sample) -> None:
    spec, rows = made(**more), samples()
    plain = run(spec, as_csv(tmp_path / "a.csv", rows))
    assert plain["messages"] == len(rows)
    assert plain["ledger"]["difference"] == 0
    assert plain["events"]
    for path in (
        as_csv(tmp_path / "b.csv", rows, ";"),
        as_jsonl(tmp_path / "c.jsonl", rows),
        as_parquet(tmp_path / "d.parquet", rows),
    ):
        assert packed(run(spec, path), "dead_letters", "ledger") == packed(plain, "dead_letters", "ledger"), path.name
    assert packed(run_messages(spec, None, "box", read_rows(spec, rows))) == packed(plain)
    assert packed(run(spec, tmp_path / "a.csv")) == packed(plain)


def test_late_rows_are_dead_letters_with_their_reason(tmp_path: Path) -> None:
    answer = run(made(), as_csv(tmp_path / "a.csv", samples()))
    assert answer["late"] == 4
    assert {letter["reason"] for letter in answer["dead_letters"]} == {"late"}
    assert answer["ledger"]["received"] == answer["ledger"]["scored"] + answer["late"]
    assert answer["ledger"]["open"] == 0, "the end of the file closes all windows"


SCRIPT = """
import sys, msgspec
from pathlib import Path
from skerry.pipeline import parse_pipeline, run_file
spec = parse_pipeline(msgspec.json.decode(sys.argv[1]), "p")
sys.stdout.buffer.write(msgspec.json.encode(run_file(spec, None, "box", Path(sys.argv[2]))))
"""


def test_another_process_with_other_hashes_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = [{**row, "device": f"device-{at % 23}"} for at, row in enumerate(samples(600))]
    path = as_csv(tmp_path / "a.csv", rows)
    table = json.dumps({"name": "p", "source": SOURCE, "window": WINDOW, "features": ["mean", "rms"], "rule": {"above": 10}})
    found = set()
    for seed in ("0", "1", "4711"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", SCRIPT, table, str(path)], env=env, capture_output=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1
    assert len(json.loads(found.pop())["events"]) > 10


def test_times_of_every_kind_mean_the_same(tmp_path: Path) -> None:
    spec = made()
    base = datetime(2026, 3, 1, 12, 0, 0, 250_000, UTC)
    moments = [base + timedelta(milliseconds=100 * at) for at in range(30)]
    seconds = [{"device": "a", "ts": moment.timestamp(), "h": 1.0, "t": 2.0} for moment in moments]
    wanted = packed(run(spec, as_csv(tmp_path / "s.csv", seconds)))
    millis = [{**row, "ts": round(row["ts"] * 1000)} for row in seconds]
    assert packed(run(spec, as_csv(tmp_path / "ms.csv", millis))) == wanted
    texts = [{**row, "ts": moment.isoformat()} for row, moment in zip(seconds, moments, strict=True)]
    assert packed(run(spec, as_csv(tmp_path / "t.csv", texts))) == wanted
    dates = [{**row, "ts": moment} for row, moment in zip(seconds, moments, strict=True)]
    assert packed(run(spec, as_parquet(tmp_path / "d.parquet", dates))) == wanted
    assert packed(run_messages(spec, None, "box", read_rows(spec, dates))) == wanted
    table = pa.Table.from_pylist(dates).set_column(1, "ts", pa.array(moments, pa.timestamp("ns", "UTC")))
    parquet.write_table(table, tmp_path / "ns.parquet")
    assert packed(run(spec, tmp_path / "ns.parquet")) == wanted


@pytest.mark.parametrize("kind", ["json", "msgpack", "cbor"])
def test_formats_of_objects_agree(tmp_path: Path, kind: str) -> None:
    spec, rows = made({"format": kind}), samples(60)
    events = run(spec, as_csv(tmp_path / "a.csv", rows))["events"]
    assert events == run(made(), tmp_path / "a.csv")["events"]
    assert events == run(spec, as_jsonl(tmp_path / "a.jsonl", rows))["events"]


def test_bytes_in_a_recording(tmp_path: Path) -> None:
    spec = made({"format": "float32", "time": ""}, window={"kind": "none"}, features=[])
    payload = struct.pack("<2f", 1.5, 2.5)
    row = {"topic": "devices/a/level", "payload": "base64:AADAPwAAIEA=", "at": 5}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    (event,) = run(spec, tmp_path / "a.jsonl")["events"]
    assert event["features"] == {"h": 1.5, "t": 2.5}
    rows = [{"topic": "devices/a/level", "payload": payload, "at": 5}]
    assert run_messages(spec, None, "box", read_rows(spec, rows))["events"] == [event]
    rows = [{"device": "a", "h": 1.5, "t": 2.5}]
    assert run_messages(spec, None, "box", read_rows(spec, rows))["events"][0]["features"] == event["features"]


def test_cells_that_are_empty_or_not_finite_are_dead_letters(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("device,ts,h,t\na,1,1,1\na,1.1,,1\na,1.2,nan,1\na,1.3,1,inf\n,1.4,1,1\na,1.5,2,2\n")
    answer = run(made(), file)
    assert [letter["reason"] for letter in answer["dead_letters"]] == ["wrong-shape", "nan", "nan", "unknown-key"]
    assert answer["ledger"]["difference"] == 0
    assert (answer["messages"], answer["ledger"]["scored"]) == (6, 2)
    empty = as_parquet(tmp_path / "a.parquet", [{"device": "a", "ts": 1.0, "h": None, "t": 1.0}, *samples(2)])
    assert [letter["reason"] for letter in run(made(), empty)["dead_letters"]] == ["wrong-shape"]


CSV = [
    ("device,ts,h,t\na,1,1,1\n\na,2,x,1\n", "4: h is 'x', not a number"),
    ("device,ts,h,t\na,yesterday,1,1\n", "2: 'yesterday' is not a time"),
    ("device,ts,h,t\na,,1,1\n", "2: '' is not a time"),
    ("device,ts,h,t\na,1e300,1,1\n", "2: '1e300' is not a time"),
    ("device,ts,h,t\na,-5,1,1\n", "2: '-5' is not a time"),
    ("device,ts,h,t\na,1,1\n", "2: has 3 cells, the first line has 4"),
    ("device,ts,h,t\na,1,1,5,2\n", "2: has 5 cells, the first line has 4"),
    ('device,ts,h,t\n"a\nb",1,1,1\na,1,y,1\n', "4: h is 'y'"),
    ("device,ts,h\na,1,1\n", "has no column t"),
    ("", "has no column device, ts, h, t"),
    ("device,ts,h,t\na/b,1,1,1\n", "2: 'a/b' is no device of devices/+/level"),
    ("device,ts,h,t\na,1,1,1\n" + "x" * 200_000 + ",1,1,1\n", "3: field larger than field limit"),
]


@pytest.mark.parametrize(("text", "words"), CSV)
def test_a_bad_line_of_csv_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    with pytest.raises(RejectedError) as caught:
        run(made(), file)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


JSONL = [
    ("{}", "1: is not a message"),
    ("[]", "1: is not a message"),
    ('{"topic": 5, "payload": 1}', "1: is not a message"),
    ('\n\n{"topic": "devices/a/level"}', "3: is not a message"),
    ("{", "1: is not JSON"),
    ("\xff", "1: is not JSON"),
    ('{"topic": "devices/a/level", "payload": {}, "at": "noon"}', "1: 'noon' is not a time"),
    ('{"topic": "devices/a/level", "payload": {}, "at": 1e300}', "is not a time"),
    ('{"topic": "devices/a/level", "payload": {}, "at": -1}', "1: -1 is not a time"),
    ('{"topic": "devices/a/level", "payload": "base64:?"}', "1: payload is not base64"),
    ('{"topic": "devices/a/level", "payload": "\\ud800"}', "1: payload"),
    ('{"topic": "devices/\\ud800/level", "payload": {}}', "1: "),
    ("[" * 100_000, "1: is not JSON"),
]


@pytest.mark.parametrize(("text", "words"), JSONL)
def test_a_bad_line_of_jsonl_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(RejectedError) as caught:
        run(made(), file)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)


def test_files_that_are_no_recordings(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("device,ts,h,t\nköln,1,1,1\n".encode("latin-1"))
    (tmp_path / "no.parquet").write_bytes(b"PAR1 and then nothing")
    (tmp_path / "a.xlsx").write_bytes(b"")
    whole = as_parquet(tmp_path / "cut.parquet", samples(2000)).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:100] + b"\x00" * 2000 + whole[2100:])
    for name in ("latin.csv", "no.parquet", "a.xlsx", "none.csv", "cut.parquet"):
        with pytest.raises(RejectedError) as caught:
            run(made(), tmp_path / name)
        assert name in str(caught.value)


def test_an_empty_file_has_no_events(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    answer = run(made(), tmp_path / "a.jsonl")
    assert (answer["events"], answer["messages"], answer["windows"], answer["late"]) == ([], 0, 0, 0)


def test_messages_of_other_topics_are_not_read(tmp_path: Path) -> None:
    lines = [{"topic": f"devices/a/{name}", "payload": {"ts": 1, "h": 1, "t": 1}} for name in ("level", "other", "level/deep")]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert run(made(), tmp_path / "a.jsonl")["messages"] == 1


@pytest.mark.parametrize(
    ("topic", "key", "wanted"),
    [
        ("devices/+/level", "{2}", "devices/a/level"),
        ("+/+/+", "{3}", "x/x/a"),
        ("site/#", "{2}", "site/a"),
        ("site/#", "{4}", "site/x/x/a"),
        ("#", "{1}", "a"),
        ("#", "{2}", "x/a"),
    ],
)
def test_a_row_becomes_the_message_of_its_device(topic: str, key: str, wanted: str) -> None:
    spec = made({"topic": topic, "key": key})
    ((found, payload, moment),) = read_rows(spec, [{"device": "a", "ts": 1, "h": 2, "t": 3}])
    assert (found, json.loads(payload), moment) == (wanted, {"ts": 1.0, "h": 2.0, "t": 3.0}, 1_000_000)


def test_rows_need_a_key_that_a_device_can_be() -> None:
    for source in ({"key": "{1}-{2}"}, {"key": "{.device}"}):
        with pytest.raises(ConfigError, match="JSONL"):
            list(read_rows(made(source), [{"device": "a", "ts": 1, "h": 2, "t": 3}]))
    with pytest.raises(RejectedError, match="'b' is no device of devices/a/level"):
        list(read_rows(made({"topic": "devices/a/level"}), [{"device": "b", "ts": 1, "h": 2, "t": 3}]))


def test_nested_fields_go_where_they_are_read(tmp_path: Path) -> None:
    spec = made({"values": ["pos.x", "pos.y"], "time": "meta.at"})
    row = {"device": "a", "meta.at": 5, "pos.x": 1, "pos.y": 2}
    ((_, payload, _),) = read_rows(spec, [row])
    assert json.loads(payload) == {"meta": {"at": 5.0}, "pos": {"x": 1.0, "y": 2.0}}
    assert run(spec, as_csv(tmp_path / "a.csv", [row]))["events"][0]["features"]["pos.x_mean"] == 1.0


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
odd_topics = (
    st.sampled_from(["devices/a/level", "devices//level", "", "#", "devices/+/level", "devices/a.b/level", "$x"]) | st.text()
)
odd_rows = st.one_of(
    anything,
    st.fixed_dictionaries({"topic": odd_topics, "payload": anything}, optional={"at": anything}),
    st.fixed_dictionaries({"device": anything, "ts": anything, "h": anything, "t": anything}),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(odd_rows, max_size=3), st.sampled_from(["json", "msgpack", "cbor", "text", "float32"]))
def test_whatever_the_rows_are_the_answer_is_events_or_an_error_of_ours(rows: list[Any], kind: str) -> None:
    timed = {} if kind in ("json", "msgpack", "cbor") else {"time": ""}
    spec = made({"format": kind, **timed})
    try:
        answer = run_messages(spec, None, "box", read_rows(spec, rows))
    except SkerryError:
        return
    assert answer["ledger"]["difference"] == 0
    msgspec.json.encode(answer)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.sampled_from(["csv", "jsonl", "parquet"]))
def test_no_file_of_rubbish_breaks_it(tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str) -> None:
    file = tmp_path_factory.getbasetemp() / f"rubbish.{kind}"
    file.write_bytes(b"device,ts,h,t\n" * (kind == "csv") + content)
    said = file.name
    try:
        run(made(), file)
    except RejectedError as error:
        said = str(error)
    assert file.name in said


def test_what_devices_sent_is_read_as_the_node_reads_it(tmp_path: Path) -> None:
    """An object in the file is put into the source's format; a string is sent as it is."""
    spec = made({"format": "cbor"})
    item = {"ts": 1.0, "h": 2.0, "t": 3.0}
    line = {"topic": "devices/a/level", "payload": item, "at": "1970-01-01T00:00:02Z"}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    ((_, payload, at),) = read_messages(spec, tmp_path / "a.jsonl")
    assert (cbor2.loads(payload), at) == (item, 2_000_000)
    (tmp_path / "a.jsonl").write_text(json.dumps({**line, "payload": "as it is"}))
    ((_, payload, at),) = read_messages(spec, tmp_path / "a.jsonl")
    assert payload == b"as it is"
