"""Topics of one side out of topics of the other."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.connector.mapping import TopicMap, check_template, fields_of, fill
from skerry.core.errors import ConfigError
from skerry.core.settings import build
from skerry.pipeline import check_filter


def mapped(source: str, to: str, topic: str) -> str | None:
    made: TopicMap = build(TopicMap, {"from": source, "to": to}, "topics[0]")
    return made.apply(topic)


@pytest.mark.parametrize(
    ("source", "to", "topic", "found"),
    [
        ("zigbee2mqtt/+", "devices/{2}/state", "zigbee2mqtt/lamp", "devices/lamp/state"),
        ("zigbee2mqtt/+", "devices/{2}/state", "zigbee2mqtt/lamp/set", None),
        ("a/+/+", "{3}/{2}", "a/b/c", "c/b"),
        ("plant/#", "devices/{rest}", "plant/a/b", "devices/a/b"),
        ("plant/#", "devices/{rest}", "plant", None),
        ("plant/#", "devices/{3}/x", "plant/a", None),
        ("plant/#", "", "plant/a", "plant/a"),
        ("plant/+", "devices/{2}/x", "plant/", None),
        ("+/x", "devices/{1}/x", "a b/x", "devices/a_b/x"),
    ],
)
def test_a_topic_becomes_another(source: str, to: str, topic: str, found: str | None) -> None:
    assert mapped(source, to, topic) == found


@pytest.mark.parametrize(
    ("source", "to", "complaint"),
    [
        ("a/#/b", "", "from: 'a/#/b': # may only be the last level"),
        ("a/+", "devices/{3}", r"to: \{3\} names nothing of 'a/\+'"),
        ("a/+", "devices/{rest}", "names nothing"),
        ("a/+", "devices/{0}", "names nothing"),
        ("a/+", "devices/#", "is no topic"),
        ("a/+", "$SYS/{2}", "is no topic"),
        ("a/+", "devices/{2", "is no topic"),
    ],
)
def test_what_cannot_be_a_map_is_refused(source: str, to: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        mapped(source, to, "")


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown key 'too', did you mean 'to'"):
        build(TopicMap, {"from": "a", "too": "b"}, "topics[0]")


def test_templates_of_payloads() -> None:
    check_template("devices/{.line}/{name}", "topic", ("name",))
    assert fields_of("devices/{.line}/{name}") == [".line", "name"]
    with pytest.raises(ConfigError, match=r"\{nam\} is not known; allowed: \{name\}"):
        check_template("devices/{nam}", "topic", ("name",))
    assert fill("devices/{.line}/x", {".line": "a/b+#"}) == "devices/a_b__/x"
    assert fill("devices/{.line}/x", {}) is None


@given(st.text(max_size=30))
def test_whatever_a_field_holds_a_topic_comes_of_it(value: str) -> None:
    found = fill("devices/{.x}/y", {".x": value})
    if value:
        assert found is not None
        check_filter(found)
        assert found.count("/") == 2
    else:
        assert found is None


def test_a_map_reads_as_it_is_written() -> None:
    assert msgspec.to_builtins(TopicMap("a/+", "b/{2}")) == {"from": "a/+", "to": "b/{2}"}
