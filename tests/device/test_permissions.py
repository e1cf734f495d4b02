"""Permissions: what a template allows and what it can never allow, judged by MQTT's own rules against NATS' own rules."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from skerry.broker import to_subject
from skerry.core.errors import RejectedError
from skerry.device import Permissions, check_id, check_templates, for_anonymous, for_device, subjects
from skerry.device.permissions import MOST_TEMPLATES, SESSION

LEVELS = st.sampled_from(["a", "b", "c.d", ".", "", "dev", "x:y"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join)
FILTERS = st.tuples(
    st.lists(LEVELS | st.just("+"), min_size=1, max_size=4), st.sampled_from([[], ["#"]])
).map(lambda parts: "/".join(parts[0] + parts[1]))  # fmt: skip


def mqtt_matches(topic_filter: str, topic: str) -> bool:
    """MQTT 3.1.1, 4.7, level by level."""
    if topic_filter == "#":
        return True
    wanted, _, rest = topic_filter.partition("/")
    level, slash, further = topic.partition("/")
    if wanted not in ("+", level):
        return False
    if "/" not in topic_filter:
        return not slash
    if not slash:
        return rest == "#"
    return mqtt_matches(rest, further)


def nats_matches(pattern: str, subject: str) -> bool:
    """NATS subjects: `*` is one token, `>` is one or more at the end."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for at, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > at
        if at >= len(tokens) or token not in ("*", tokens[at]):
            return False
    return len(wanted) == len(tokens)


def allows(allowed: tuple[str, ...], topic: str) -> bool:
    return any(nats_matches(pattern, to_subject(topic)) for pattern in allowed)


@given(FILTERS, TOPICS)
def test_a_filter_allows_exactly_the_topics_that_it_matches(topic_filter: str, topic: str) -> None:
    assume(topic)
    assert allows(subjects(topic_filter), topic) == mqtt_matches(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "expected"),
    [
        ("a/b", ("a.b",)),
        ("a/#", ("a.>", "a")),
        ("a/+/c", ("a.*.c",)),
        ("a/+/#", ("a.*.>", "a.*")),
        ("a.b/c", ("a//b.c",)),
        ("/a", ("/.a",)),
        ("a//b", ("a./.b",)),
        ("a/", ("a./",)),
        ("a/.b", ("a.//b",)),
    ],
)
def test_subjects_are_written_as_the_server_writes_them(topic_filter: str, expected: tuple[str, ...]) -> None:
    assert subjects(topic_filter) == expected


def test_a_device_has_its_own_topics_and_no_others() -> None:
    allowed = for_device("pump-1")
    assert allowed == Permissions(
        publish=("devices.pump-1.>", "devices.pump-1", "status.pump-1"),
        subscribe=("commands.pump-1.>", "commands.pump-1", *SESSION),
    )
    for topic in ("devices/pump-1/x", "devices/pump-1/x/y", "status/pump-1"):
        assert allows(allowed.publish, topic)
    for topic in (
        "devices/pump-2/x",
        "devices",
        "status/pump-1/x",
        "commands/pump-1/x",
        "events/x",
        "$JS/API/INFO",
        "devices/pump-1.x/y",
    ):
        assert not allows(allowed.publish, topic)
    for topic in ("commands/pump-2/x", "devices/pump-1/x", "events/p/k", "$SYS/x", "status/pump-1"):
        assert not allows(allowed.subscribe, topic)


def test_templates_come_beside_its_own_topics() -> None:
    allowed = for_device("d1", ["pub:tele/{device}/#", "pub:tele/{device}/#", "sub:events/#", "sub:{device}/cmd"])
    assert allowed.publish == (*for_device("d1").publish, "tele.d1.>", "tele.d1")
    assert set(allowed.subscribe) == {*for_device("d1").subscribe, "events.>", "events", "d1.cmd"}


def test_anonymous_clients_have_the_three_trees() -> None:
    allowed = for_anonymous()
    assert set(allowed.publish) == {"devices.>", "devices", "commands.>", "commands", "events.>", "events"}
    assert set(allowed.subscribe) == {*allowed.publish, *SESSION}


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_:@-]{0,63}", fullmatch=True))
def test_what_is_an_id_is_one_level_and_one_token(device: str) -> None:
    check_id(device)
    assert to_subject(device) == device
    assert mqtt_matches(f"devices/{device}/#", f"devices/{device}/x")
    assert not allows(for_device(device).publish, f"devices/{device}x/y")


@given(st.text(max_size=70))
def test_any_other_text_is_refused_in_words(device: str) -> None:
    ok = 1 <= len(device) <= 64 and all(sign.isascii() and (sign.isalnum() or sign in "_-:@") for sign in device)
    if ok and device[0] not in "-:@":
        check_id(device)
        return
    with pytest.raises(RejectedError, match="1 to 64 of the letters"):
        check_id(device)


@pytest.mark.parametrize("device", ["", "a/b", "a+", "#", "a.b", "*", ">", "a b", "a\n", "ü", "x" * 65, "$x", "-x", "a\0"])
def test_ids_that_would_mean_more_than_themselves(device: str) -> None:
    with pytest.raises(RejectedError):
        check_id(device)


@pytest.mark.parametrize(
    "template",
    [
        "pub:alarms/#", "sub:events/#", "pub:tele/{device}/+/x", "sub:{device}/cmd", "pub:/leading", "pub:a//b", "pub:a.b/c",
        "sub:zigbee2mqtt/{device}", "pub:räume/1", "sub:a/+", "pub:shellies/{device}-relay/#",
    ],
)  # fmt: skip
def test_good_templates(template: str) -> None:
    check_templates("d1", [template])
    assert for_device("d1", [template]) != for_device("d1")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("events/#", "pub: or sub:"),
        ("read:events/#", "pub: or sub:"),
        ("", "pub: or sub:"),
        ("pub:", "1 to 256 bytes"),
        ("pub:" + "x" * 257, "1 to 256 bytes"),
        ("pub:#", "first level"),
        ("sub:+/x", "first level"),
        ("pub:$JS/API/#", "first level"),
        ("sub:$MQTT/#", "first level"),
        ("pub:_INBOX/x", "first level"),
        ("pub:skerry/events/#", "first level"),
        ("sub:a/#/b", "last level"),
        ("sub:a/b#", "whole level"),
        ("sub:a/+b", "whole level"),
        ("pub:a b", "spaces"),
        ("pub:a\nb", "spaces"),
        ("pub:a\0b", "control"),
        ("pub:{id}/x", "only placeholder"),
        ("pub:a/{device", "only placeholder"),
        ("pub:a/>", "not for topics"),
        ("sub:a/*", "not for topics"),
    ],
)
def test_bad_templates_are_refused_and_say_why(template: str, why: str) -> None:
    with pytest.raises(RejectedError, match=why) as caught:
        check_templates("d1", ["pub:good", template])
    assert "pub:alarms" in caught.value.mend


@pytest.mark.parametrize("device", ["skerry", "_INBOX"])
def test_a_placeholder_is_no_way_to_a_reserved_level(device: str) -> None:
    check_templates("d1", ["pub:{device}/#"])
    with pytest.raises(RejectedError, match="first level"):
        check_templates(device, ["pub:{device}/#"])


def test_templates_are_bounded() -> None:
    check_templates("d1", ["pub:a"] * MOST_TEMPLATES)
    with pytest.raises(RejectedError, match="at most"):
        check_templates("d1", ["pub:a"] * (MOST_TEMPLATES + 1))


@given(
    st.lists(
        st.sampled_from(["pub:", "sub:"]).flatmap(lambda right: (FILTERS | st.text(max_size=9)).map(right.__add__)), max_size=4
    )
)
def test_no_template_reaches_what_is_the_servers_or_the_nodes(templates: list[str]) -> None:
    try:
        check_templates("d1", templates)
    except RejectedError:
        return
    allowed = for_device("d1", templates)
    for topic in ("$JS/API/STREAM/DELETE/x", "$SYS/x", "$KV/b/k", "$MQTT/msgs/devices/x", "skerry/events/p", "_INBOX/x/y"):
        assert not allows(allowed.publish, topic)
        assert not allows(tuple(subject for subject in allowed.subscribe if subject not in SESSION), topic)
