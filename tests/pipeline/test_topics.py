"""Topics, subjects and keys; what nats-server makes of odd topics is asked of a real one."""

import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.broker import LOG, read_page, to_subject, to_topic
from skerry.core.errors import ConfigError
from skerry.pipeline import MQTT_PREFIX, QOS0_PREFIX, RETRY_PREFIX, event_topic, filter_matches, key_token, subjects_of, topic_of
from skerry.pipeline.topics import MAX_SUBJECT, KeyTemplate, check_filter, check_name, may_match, topic_level
from tests.fixtures.nats import NatsServer
from tests.fixtures.raw_mqtt import RawMqtt

ODD = [
    "a", "a.b", "a..b", "a...b", "/a", "a/", "a//b", ".a", "a.", "/", "//", "///", ".", "..", "...", "a/.b", "a./b", "a/./b",
    "a/../b", "a.b//c./.d", "x//", "*", ">", "d/*/v", "d/>/v", "d/>", "a*b/>c", "$SYS/x", "$MQTT/x", "ä/ü/日本", "a%b/=/{x}",
    "a\x01b", "devices/" + "y" * 5000 + "/v",
]  # fmt: skip
REFUSED = [b"a b", b"a\tb", b"a\nb", b"a\xffb", b"a\xed\xa0\x80b", b"a\0b"]
topics = st.text(st.sampled_from("ab./-ä*>"), min_size=1, max_size=12)
filters = st.lists(st.sampled_from(["a", "b", "+", "", "a.b"]), min_size=1, max_size=4).map("/".join)


@pytest.mark.asyncio
async def test_a_real_server_stores_topics_under_the_subjects_that_we_expect(tmp_path: Path) -> None:
    def publish(topic: bytes, port: int) -> bool:
        with RawMqtt(port) as client:
            return client.publish(topic, topic)

    with NatsServer(tmp_path) as server:
        client = await server.prepared()
        for topic in ODD:
            assert await asyncio.to_thread(publish, topic.encode(), server.mqtt_port), topic
        for topic in REFUSED:
            assert not await asyncio.to_thread(publish, topic, server.mqtt_port), topic
        stored = await read_page(client, LOG, f"{MQTT_PREFIX}>", 0)
        assert [message.payload.decode() for message in stored] == ODD
        assert [message.subject for message in stored] == [MQTT_PREFIX + to_subject(topic) for topic in ODD]
        assert [topic_of(message.subject.encode()) for message in stored] == ODD
        client.close()
        await client.closed


@given(topics)
def test_a_subject_leads_back_to_its_topic(topic: str) -> None:
    subject = to_subject(topic)
    assert to_topic(subject) == topic
    assert all(subject.split("."))
    for prefix in (MQTT_PREFIX, QOS0_PREFIX, f"{RETRY_PREFIX}p."):
        assert topic_of((prefix + subject).encode()) == topic


@given(topics, topics)
def test_two_topics_never_share_a_subject(one: str, other: str) -> None:
    assert (to_subject(one) == to_subject(other)) == (one == other)


def matches_by_subject(pattern: str, subject: str) -> bool:
    """NATS's own rule: `*` is one token, `>` one or more."""
    text = re.escape(pattern).replace(r"\*", "*").replace(">", r"\S+").replace("*", r"[^.]+")
    return re.fullmatch(text, subject) is not None


@given(filters, st.booleans(), st.lists(st.sampled_from(["a", "b", "", "a.b"]), min_size=1, max_size=5).map("/".join))
def test_a_filter_matches_what_the_subjects_that_are_read_for_it_match(wanted: str, rest: bool, topic: str) -> None:
    wanted = f"{wanted}/#" if rest else wanted
    subject = to_subject(topic)
    assert filter_matches(wanted, topic) == any(matches_by_subject(pattern, subject) for pattern in subjects_of(wanted))


@pytest.mark.parametrize(
    ("wanted", "topic", "matches"),
    [
        ("#", "a/b", True), ("a/#", "a", True), ("a/#", "a/b/c", True), ("a/#", "ab", False), ("+", "a", True), ("+", "a/b", False),
        ("+/+", "/a", True), ("/+", "/a", True), ("+", "/a", False), ("a/+/c", "a/b/c", True),
        ("a/+/c", "a//c", True), ("a", "a/", False),
    ],
)  # fmt: skip
def test_filters_match_as_the_standard_says(wanted: str, topic: str, matches: bool) -> None:
    assert filter_matches(wanted, topic) is matches


def test_a_filter_for_a_whole_branch_has_two_subjects() -> None:
    assert subjects_of("a/+/c") == ["a.*.c"]
    assert subjects_of("a/#") == ["a.>", "a"]
    assert subjects_of("#") == [">"]


@pytest.mark.parametrize("topic", ["", "a/#/b", "a#", "a/b+", "$SYS/#", "a b", "a/*/b", "a/>", "a\0"])
def test_what_is_no_filter_is_refused(topic: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_filter(topic)
    assert caught.value.where == "topic"
    assert repr(topic) in str(caught.value)


@pytest.mark.parametrize("topic", ["#", "+", "a/+/#", "/a//b/", "a.b", "a*b/>c"])
def test_what_is_a_filter_is_taken(topic: str) -> None:
    check_filter(topic)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a.b", "a/b", "ä", "a" * 65, "_a"])
def test_what_cannot_name_a_pipeline_is_refused(name: str) -> None:
    check_name("a" * 64, "name")
    check_name("A-1_b", "name")
    with pytest.raises(ConfigError, match="letters, digits"):
        check_name(name, "name")


@given(st.text(max_size=6), st.text(max_size=6))
def test_a_key_token_is_one_token_and_no_other_keys(one: str, other: str) -> None:
    try:
        tokens = key_token(one), key_token(other)
    except UnicodeEncodeError:  # half a character: no decoder gives it
        return
    assert (tokens[0] == tokens[1]) == (one == other)
    assert all(re.fullmatch(r"[A-Za-z0-9_:@=-]+", token) for token in tokens)


@given(st.text(max_size=10))
def test_an_event_has_a_topic_that_the_broker_takes(key: str) -> None:
    topic = event_topic("p", key)
    assert topic.count("/") == 2
    assert not re.search(r"[\x00-\x20\x7f+#]", topic)
    assert topic_level(topic_level(key)) == topic_level(key)


def test_a_key_comes_from_the_levels_of_the_topic() -> None:
    assert KeyTemplate("{2}", "devices/+/v").from_topic("devices/d7/v") == "d7"
    assert KeyTemplate("{1}-{3}", "+/+/+").from_topic("a/b/c") == "a-c"
    assert KeyTemplate("{2}/{.id}", "a/+").from_topic("a/b") == "b/{.id}"
    assert KeyTemplate("{3}", "a/#").from_topic("a/b") is None
    assert KeyTemplate("{2}", "a/+").from_topic("a/") is None


@pytest.mark.parametrize("template", ["", "x", "{0}", "{}", "{x}", "{-1}", "{4}", "{²}", "{2", "{1.5}"])
def test_a_key_that_names_no_level_is_refused(template: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KeyTemplate(template, "devices/+/v")
    assert caught.value.where == "key"


def test_a_subject_of_the_greatest_length_fits_a_line_under_any_prefix() -> None:
    assert MAX_SUBJECT + len(f"HPUB {RETRY_PREFIX}{'p' * 64}. _INBOX.{'x' * 40} 1000 10000000\r\n") < 4096


@pytest.mark.parametrize(
    ("wanted", "template", "may"),
    [
        ("devices/+/v", "alarms/{device}", False), ("#", "alarms/{device}", True), ("alarms/+", "alarms/{device}", True),
        ("alarms/a", "alarms/{device}", True), ("alarms/a/b", "alarms/{device}", False), ("a/#", "a/{state}/x", True),
        ("a/+", "b/{state}", False), ("a/#", "a", True), ("a/b", "a/b", True), ("a/b-{x}", "a/b", False),
    ],
)  # fmt: skip
def test_a_template_may_match_a_filter(wanted: str, template: str, may: bool) -> None:
    assert may_match(wanted, template) is may
