"""Commands: signed by one key, for one node, on allowed topics, before they expire, and never twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.core.errors import RejectedError
from skerry.trust import SigningKey
from skerry.uplink import Command, Done, Memory, judge, open_command, read_command, sign_command
from skerry.uplink.commands import AHEAD_US, LONGEST_US, MOST_REMEMBERED

KEY, OTHER = SigningKey.new(), SigningKey.new()
NOW, MINUTE = 1_795_545_600_000_000, 60_000_000
ALLOW = ("commands/+/set", "node/#")


def signed(topic: str = "commands/valve/set", key: SigningKey = KEY, lasts: int = MINUTE) -> bytes:
    return sign_command(key, "shore", "rock", topic, b"42", NOW, lasts, "c1")


def asked(memory: Memory | None = None, now: int = NOW, allow: tuple[str, ...] = ALLOW, **changed: object) -> str:
    given = {"id": "c1", "site": "shore", "node": "rock", "topic": "commands/valve/set", "payload": b"42", "issued": NOW}
    command = Command(**{**given, "expires": NOW + MINUTE, **changed})  # type: ignore[arg-type]  # named as Command has them
    return judge(command, "shore", "rock", allow, memory or Memory(), now)


def test_what_was_signed_comes_back() -> None:
    command = open_command(signed(), KEY.public)
    assert command == read_command(signed())
    assert (command.site, command.node, command.topic, command.payload) == ("shore", "rock", "commands/valve/set", b"42")
    assert (command.issued, command.expires) == (NOW, NOW + MINUTE)


@given(st.data())
def test_no_byte_of_it_can_be_changed(data: st.DataObject) -> None:
    frame = bytearray(signed())
    at = data.draw(st.integers(0, len(frame) - 1))
    frame[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RejectedError):
        open_command(bytes(frame), KEY.public)


@given(st.binary(max_size=300))
def test_rubbish_is_refused(data: bytes) -> None:
    for frame in (data, b"SKCM\x01" + data):
        with pytest.raises(RejectedError):
            open_command(frame, KEY.public)


def test_another_key_commands_nothing() -> None:
    with pytest.raises(RejectedError, match=r"not signed with the centre's key \(uplink\.commands\.key\)"):
        open_command(signed(key=OTHER), KEY.public)


@pytest.mark.parametrize(
    ("topic", "lasts"), [("a/+", MINUTE), ("#", MINUTE), ("", MINUTE), ("$SYS/x", MINUTE), ("a", 0), ("a", 1 << 60)]
)
def test_what_cannot_be_a_command_is_not_signed(topic: str, lasts: int) -> None:
    with pytest.raises(RejectedError):
        signed(topic, lasts=lasts)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"topic": "node/pipelines/p/pause"}, ""),
        ({"site": "isle"}, "it is for isle/rock"),
        ({"node": "other"}, "it is for shore/other"),
        ({"now": NOW + MINUTE}, "it has expired"),
        ({"issued": NOW + AHEAD_US + 1, "expires": NOW + 2 * MINUTE}, "ahead of this node's clock"),
        ({"expires": NOW + LONGEST_US + 1}, "more than 7 days"),
        ({"topic": "commands/valve/open"}, "not in uplink.commands.allow"),
        ({"topic": "commands/+/set"}, "no topic to publish on"),
        ({"allow": ()}, "not in uplink.commands.allow"),
        ({"memory": Memory(dict.fromkeys(map(str, range(MOST_REMEMBERED)), Done(NOW + MINUTE, "done")))}, "have not expired yet"),
    ],
)
def test_why_one_is_not_carried_out(changed: dict[str, object], why: str) -> None:
    found = asked(**changed)  # type: ignore[arg-type]  # a table of different things
    assert why in found
    assert bool(found) is bool(why)


def test_what_was_forgotten_cannot_be_carried_out_when_the_clock_is_set_back() -> None:
    memory = Memory({"c1": Done(NOW + MINUTE, "done")})
    memory.forget(NOW)
    assert memory.done
    memory.forget(NOW + MINUTE)
    assert not memory.done
    assert asked(memory, NOW) == "it has expired"
    assert asked(memory, NOW, expires=NOW + 2 * MINUTE) == ""
