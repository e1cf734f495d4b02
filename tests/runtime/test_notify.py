"""What the service manager hears: with real sockets, named in the file system and in the abstract."""

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry.runtime import Notifier


@pytest.fixture(params=["file", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "file" else "@skerry-" + secrets.token_hex(8)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.settimeout(2)
        yield listening, name


def test_each_word_arrives_as_a_datagram(listener: tuple[socket.socket, str]) -> None:
    listening, name = listener
    notifier = Notifier({"NOTIFY_SOCKET": name})
    assert notifier.wanted
    assert all([notifier.ready(), notifier.watchdog(), notifier.stopping()])
    assert [listening.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_a_status_is_one_line_and_said_once(listener: tuple[socket.socket, str]) -> None:
    listening, name = listener
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for sentence in ("all\nworks", "all works", "the disk is full", "all works"):
        assert notifier.status(sentence)
    assert [listening.recv(100) for _ in range(3)] == [b"STATUS=all works", b"STATUS=the disk is full", b"STATUS=all works"]
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.recv(100)


def test_nobody_listens() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000000"})
    assert not notifier.wanted
    assert not any([notifier.ready(), notifier.stopping(), notifier.watchdog(), notifier.status("x")])
    assert notifier.watchdog_s == 0.0


def test_who_has_gone_is_no_error(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    assert notifier.wanted
    assert not notifier.ready()


def test_a_listener_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        said = [notifier.watchdog() for _ in range(5000)]
    assert said[0]
    assert not said[-1]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
        ({}, 0.0),
    ],
)
def test_how_often_it_has_to_be_said(given: dict[str, str], seconds: float) -> None:
    assert Notifier({"NOTIFY_SOCKET": "@nobody", **given}).watchdog_s == seconds


def test_children_do_not_speak_for_it() -> None:
    environment = {"NOTIFY_SOCKET": "@nobody", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/bin"}
    Notifier(environment)
    assert environment == {"PATH": "/bin"}
