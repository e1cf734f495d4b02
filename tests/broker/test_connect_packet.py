"""CONNECT packets, read and written anew: against what paho sends, and against rubbish."""

import socket
import struct
import threading
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from skerry.broker.connect_packet import MOST, Odd, read_connect

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def field(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def packet(
    client_id: bytes = b"c",
    *,
    username: bytes | None = None,
    password: bytes | None = None,
    will: tuple[bytes, bytes] | None = None,
    protocol: bytes = b"MQTT",
    level: int = 4,
    more: bytes = b"",
) -> bytes:
    flags = 2 | (0x2C if will else 0) | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = field(protocol) + bytes([level, flags]) + b"\0\x3c" + field(client_id)
    for each in (*(will or ()), username, password):
        body += field(each) if each is not None else b""
    body += more
    length, left = b"", len(body)
    while True:
        left, digit = divmod(left, 128)
        length += bytes([digit | (0x80 if left else 0)])
        if not left:
            return b"\x10" + length + body


def sent_by_paho(**options: Any) -> bytes:
    """The first bytes of a paho client, sent to nobody who answers."""
    will = options.pop("will", None)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="dev-1", reconnect_on_failure=False, **options.pop("client", {}))
    if will:
        client.will_set(*will, qos=1, retain=True)
    if options:
        client.username_pw_set(**options)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        caller = threading.Thread(target=lambda: client.connect("127.0.0.1", port))
        caller.start()
        peer, _ = listener.accept()
        with peer:
            caller.join(5)
            client.loop_write()
            found = peer.recv(4096)
    client.disconnect()
    return found


@pytest.mark.parametrize(
    ("options", "username", "password"),
    [
        ({}, "", ""),
        ({"username": "pump-1", "password": "pässword"}, "pump-1", "pässword"),
        ({"username": "pump-1"}, "pump-1", ""),
        ({"username": "pump-1", "password": "p", "will": ("status/pump-1", b"\x00gone\xff")}, "pump-1", "p"),
        ({"username": "old", "password": "p", "client": {"protocol": paho.MQTTv31}}, "old", "p"),
    ],
)
def test_what_paho_sends(options: dict[str, Any], username: str, password: str) -> None:
    sent = sent_by_paho(**options)
    found = read_connect(sent)
    assert found is not None
    assert (found.username, found.password, found.length) == (username, password, len(sent))
    written = found.with_credentials("other", "word")
    again = read_connect(written)
    assert again is not None
    assert (again.username, again.password, again.length) == ("other", "word", len(written))
    assert (again.head, again.body) == (found.head, found.body), "client id, will and keep-alive are as they were"


@given(TEXTS, st.one_of(st.none(), st.tuples(TEXTS, st.binary(max_size=300))), TEXTS, TEXTS, st.binary(max_size=20))
@example("c", ("t", b"x" * 65_535), "u", "p", b"")
def test_nothing_but_the_credentials_is_changed(
    client_id: str, will: tuple[str, bytes] | None, username: str, password: str, after: bytes
) -> None:
    given_will = (will[0].encode(), will[1]) if will else None
    sent = packet(client_id.encode(), username=username.encode(), password=password.encode(), will=given_will)
    found = read_connect(sent + after)
    assert found is not None
    assert (found.username, found.password, found.length) == (username, password, len(sent))
    assert found.with_credentials(username, password) == sent
    other = found.with_credentials("someone", "word" * 12)
    assert other == packet(client_id.encode(), username=b"someone", password=b"word" * 12, will=given_will)


@given(st.data())
def test_a_packet_that_is_not_there_whole_is_waited_for(data: st.DataObject) -> None:
    sent = packet(b"client", username=b"u", password=b"p" * data.draw(st.integers(0, 300)))
    assert read_connect(sent[: data.draw(st.integers(0, len(sent) - 1))]) is None


@given(st.binary(max_size=200))
@example(b"GET /mqtt HTTP/1.1\r\n\r\n")
@example(b"\x10\xff\xff\xff\xff\x01")
@example(b"\x10\x02\x00\x00")
@example(packet(level=5))
def test_rubbish_is_odd_or_waited_for_and_never_something_else(data: bytes) -> None:
    try:
        found = read_connect(data)
    except Odd:
        return
    assert found is None or found.length <= len(data)


@pytest.mark.parametrize(
    "sent",
    [
        packet(level=5, more=b"\0"),
        packet(level=0x84),
        packet(more=b"left over"),
        packet(b"c", username=b"\xff\xfe", password=b"p"),
        packet(b"c", username=b"u", password=b"\xc3\x28"),
        b"\x30\x04\x00\x01tx",
        b"\x10" + b"\xff\xff\xff\x7f" + b"x" * 10,
        b"\x10\x0d" + packet()[2:-3] + b"\0\x09c",
    ],
    ids=["mqtt 5", "a bridge", "too long", "user name no text", "password no text", "a publish", "a huge one", "a torn field"],
)
def test_what_is_odd(sent: bytes) -> None:
    with pytest.raises(Odd) as odd:
        read_connect(sent)
    assert odd.value.answer == (b"\x20\x02\x00\x01" if sent[8:9] in (b"\x05", b"\x84") else b"")


def test_a_packet_has_a_bound() -> None:
    """What it must hold is below: will, client id and credentials of the greatest length together."""
    most = packet(b"c" * 65_535, username=b"u" * 65_535, password=b"p" * 65_535, will=(b"t" * 65_535, b"m" * 65_535))
    assert len(most) < MOST
    assert read_connect(most) is not None
    with pytest.raises(Odd):
        read_connect(b"\x10" + b"\x81\x80\x20" + b"x" * 100)


def test_a_password_is_never_shown() -> None:
    found = read_connect(packet(username=b"u", password=b"very-secret"))
    assert "very-secret" not in repr(found)
