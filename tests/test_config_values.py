"""The schema of the file, and every key with every kind of value: it parses, or says where it does not."""

import datetime as dt
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry.config import LISTS, Sections, schema
from skerry.core.errors import ConfigError
from skerry.core.settings import build, load_tables
from skerry.pipeline import parse_pipeline
from tests.test_config import WHOLE, written


def fits(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> bool:
    """JSON Schema, as much of it as is used here."""
    if "$ref" in rule:
        return fits(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root)
    if "anyOf" in rule:
        return any(fits(value, each, root) for each in rule["anyOf"])
    if "enum" in rule:
        return value in rule["enum"]
    kinds: dict[str, Any] = {
        "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float), "null": type(None),
    }  # fmt: skip
    if not isinstance(value, kinds[rule["type"]]) or (isinstance(value, bool) and rule["type"] != "boolean"):
        return False
    if rule["type"] == "array":
        return all(fits(each, rule.get("items", {"anyOf": []}), root) for each in value)
    if rule["type"] != "object":
        return True
    known, others = rule.get("properties", {}), rule.get("additionalProperties", True)
    if not set(rule.get("required", ())) <= set(value):
        return False
    for name, each in value.items():
        if name in known:
            if not fits(each, known[name], root):
                return False
        elif others is False or (isinstance(others, dict) and not fits(each, others, root)):
            return False
    return True


def test_the_schema_takes_what_load_takes(tmp_path: Path) -> None:
    found = json.loads(json.dumps(schema()))
    values = load_tables(written(tmp_path, WHOLE)).values
    assert fits(values, found, found)
    for section, table in values.items():
        assert fits({section: table}, found, found), section
    assert not fits({"nod": {}}, found, found)
    assert not fits({"node": {"nmae": "x"}}, found, found)
    assert not fits({"pipelines": [{"name": "p"}]}, found, found)
    assert not fits({"pipelines": [{**values["pipelines"][0], "sinks": ["evnt"]}]}, found, found)
    assert not fits({"storage": {"compression": "gzip"}}, found, found)


FIELDS = [
    (section.name, field.encode_name)
    for section in msgspec.structs.fields(Sections)
    if section.name not in LISTS
    for field in msgspec.structs.fields(section.type)
]
odd = st.one_of(
    st.integers(), st.floats(), st.text(max_size=8), st.booleans(), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
    st.sampled_from(["", "0s", "-1s", "1s", "0B", "1e9GiB", "[::]:1", ":1", "a:99999"]),
    st.sampled_from(["s", "B", "B/s"]).map(lambda unit: "9" * 400 + unit),
    st.just(dt.date(2026, 1, 1)), st.just(10**400), st.just(math.nan),
)  # fmt: skip


def complaint(parse: Callable[[], object]) -> str | None:
    """The error's text, None where it parses."""
    try:
        parse()
    except ConfigError as error:
        return str(error)
    return None


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FIELDS), odd)
def test_no_value_of_any_key_is_more_than_a_config_error(place: tuple[str, str], value: Any) -> None:
    section, key = place
    kind = next(field.type for field in msgspec.structs.fields(Sections) if field.name == section)
    said = complaint(lambda: build(kind, {key: value}, section))
    assert said is None or said.startswith(section)


PIPELINE = {
    "name": "p",
    "source": {"topic": "a/+", "values": ["x"]},
    "window": {"kind": "count", "size": 5},
    "features": ["mean"],
    "rule": {"above": 1.0},
    "sinks": ["event"],
    "resources": {},
}
PARTS = {
    "source": ["topic", "format", "time", "values", "key", "rate", "max_future", "max_payload", "max_keys"],
    "window": ["kind", "size", "every", "gap", "by", "lateness", "idle", "max_samples"],
    "rule": ["field", "above", "below", "clear_below", "clear_above", "for", "clear_for", "severity", "flap"],
    "resources": ["memory", "cpu", "network"],
}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([(part, key) for part, keys in PARTS.items() for key in keys] + [("", key) for key in PIPELINE]), odd)
def test_no_value_in_a_pipeline_is_more_than_a_config_error(place: tuple[str, str], value: Any) -> None:
    part, key = place
    table: dict[str, Any] = json.loads(json.dumps(PIPELINE))
    (table[part] if part else table)[key] = value
    said = complaint(lambda: parse_pipeline(table, "pipelines[0]"))
    assert said is None or said.startswith("pipelines[0]")
