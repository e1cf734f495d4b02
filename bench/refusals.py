"""The rows "refusals": can who is refused tell from the time of the answer why?

Each kind of refusal is measured again and again, in random turns. Two kinds that cannot be told apart have an AUC of 0.5: the
chance that an answer of the one took longer than an answer of the other (Mann-Whitney's U over n m). What chance alone would give
for as many samples is printed beside the largest.
"""

import asyncio
import base64
import contextlib
import http.client
import itertools
import json
import math
import random
import secrets
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.logins import connect_packet
from bench.rows import Options, Row, Say, median_row
from bench.systems import Skerry
from skerry.device import CHALLENGE_PATH, TOKEN_PATH, answer_to
from skerry.http import Client
from skerry.trust import SigningKey

SAMPLES, SAMPLES_MQTT = 300, 60
A_NAME = 12
"""Refusals a device and a source, well below the twenty a minute after which answers are slowed down."""
TTL_S = 2
PAUSE_S = 0.002
SIGMAS = 4.0
"""Of the largest of several AUCs: one in ten thousand where there is nothing to be found."""
Sample = Callable[[], float]


def auc(first: list[float], second: list[float]) -> float:
    """The chance that a value of the second is larger than one of the first; ties count half."""
    both = np.concatenate([first, second])
    order = both.argsort(kind="stable")
    ranks = np.empty(len(both))
    ranks[order] = np.arange(1, len(both) + 1)
    for value in np.unique(both):
        same = both == value
        ranks[same] = ranks[same].mean()
    larger = ranks[len(first) :].sum() - len(second) * (len(second) + 1) / 2
    return float(larger / (len(first) * len(second)))


def bound(first: int, second: int) -> float:
    """How far from 0.5 the AUC of two samples of one distribution may lie."""
    return SIGMAS * math.sqrt((first + second + 1) / (12 * first * second))


def worst(found: dict[str, list[float]]) -> tuple[float, float, str]:
    """Of all pairs the AUC farthest from 0.5, as its distance in bounds, itself, and the pair's names."""
    pairs = []
    for one, other in itertools.combinations(found, 2):
        value = auc(found[one], found[other])
        pairs.append((abs(value - 0.5) / bound(len(found[one]), len(found[other])), value, f"{one} / {other}"))
    return max(pairs)


class Door:
    """The node's HTTP from changing addresses, and devices of it by the dozen."""

    def __init__(self, system: Skerry) -> None:
        self._api = system.api
        self._keys: dict[str, SigningKey] = {}
        self._uses = 0
        self._sources = itertools.count(2)
        self._connection: http.client.HTTPConnection | None = None

    def add(self, name: str, *, revoked: bool = False, password: bool = False) -> str:
        """Make a device known, with a key unless it is to have a password that nobody will use; its name."""
        self._keys[name] = SigningKey.new()
        with Client(f"http://127.0.0.1:{self._api}") as client:
            client.post("/api/v1/devices", {"id": name} if password else {"id": name, "key": self._keys[name].public_pem()})
            if revoked:
                client.post(f"/api/v1/devices/{name}/revoke")
        return name

    def ask(self, path: str, body: Any) -> tuple[int, Any, float]:
        """Status, answer and seconds. The connection, and with it the source, changes after a few requests."""
        if self._connection is None or self._uses == A_NAME:
            self.close()
            number = next(self._sources)
            source = f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            self._connection = http.client.HTTPConnection("127.0.0.1", self._api, timeout=10, source_address=(source, 0))
            self._connection.connect()
            self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._uses = 0
        self._uses += 1
        sent = json.dumps(body).encode()
        began = time.perf_counter()
        self._connection.request("POST", path, sent, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        return answer.status, content, time.perf_counter() - began

    def challenge(self, device: str) -> str:
        return str(json.loads(self.ask(CHALLENGE_PATH, {"device": device})[1])["challenge"])

    def refused(self, body: dict[str, str]) -> float:
        """Seconds of a refusal. The pause before it makes what was computed here just now no part of it."""
        time.sleep(PAUSE_S)
        status, content, seconds = self.ask(TOKEN_PATH, body)
        if status != 401 or json.loads(content)["detail"] != "not authorised":
            raise SystemExit(f"should have been refused: {status} {content!r}")
        return seconds

    def answer(self, device: str, challenge: str) -> dict[str, str]:
        """The right answer."""
        return answer_to(device, self._keys[device], {"challenge": challenge})

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def noise() -> str:
    """A signature in form only: S is below the group's order."""
    return base64.b64encode(SigningKey.new().sign(secrets.token_bytes(8))).decode()


def names(door: Door, kind: str, samples: int, *, revoked: bool = False, password: bool = False) -> Iterator[str]:
    """Devices for so many refusals of one kind: each name is refused by one kind only, and not often enough to be slowed down."""
    made = [door.add(f"{kind}-{number}", revoked=revoked, password=password) for number in range(math.ceil(samples / A_NAME))]
    return itertools.chain.from_iterable(itertools.repeat(name, A_NAME) for name in made)


def token_kinds(door: Door) -> dict[str, Sample]:
    """One refusal of each kind, each with what is well-formed."""
    bad, old, spent = (names(door, kind, SAMPLES) for kind in ("bad", "old", "spent"))
    gone = names(door, "gone", SAMPLES, revoked=True)
    fresh = (f"nobody-{number // A_NAME}" for number in itertools.count())
    answers = [door.answer(name, door.challenge(name)) for name in old]
    time.sleep(TTL_S + 0.1)
    expired = iter(answers)

    def signed_wrong(name: str) -> float:
        return door.refused({"device": name, "challenge": door.challenge(name), "signature": noise()})

    def used() -> float:
        name = next(spent)
        body = door.answer(name, door.challenge(name))
        if door.ask(TOKEN_PATH, body)[0] != 200:
            raise SystemExit("a right answer was refused")
        return door.refused(body)

    def revoked_device() -> float:
        name = next(gone)
        return door.refused(door.answer(name, door.challenge(name)))

    def expired_challenge() -> float:
        body = next(expired)
        door.challenge(body["device"])  # as before the others, so that the connection is as warm
        return door.refused(body)

    return {
        "bad signature": lambda: signed_wrong(next(bad)), "unknown device": lambda: signed_wrong(next(fresh)),
        "expired challenge": expired_challenge, "used challenge": used, "revoked device": revoked_device,
    }  # fmt: skip


def challenge_kinds(door: Door) -> dict[str, Sample]:
    """Challenges for devices that are there and that are not."""
    known = itertools.cycle([door.add(f"asked-{number}") for number in range(8)])
    fresh = (f"stranger-{number % 8}" for number in itertools.count())
    return {
        "known": lambda: door.ask(CHALLENGE_PATH, {"device": next(known)})[2],
        "unknown": lambda: door.ask(CHALLENGE_PATH, {"device": next(fresh)})[2],
    }


def connect_kinds(door: Door, port: int) -> dict[str, Sample]:
    """CONNECTs that are refused, each from an address of its own."""
    keyed, gone = names(door, "keyed", SAMPLES_MQTT), names(door, "locked", SAMPLES_MQTT, revoked=True)
    worded = names(door, "worded", SAMPLES_MQTT, password=True)
    fresh = (f"stray-{number // A_NAME}" for number in itertools.count())
    sources = itertools.count(2)

    def refused(name: str) -> float:
        number = next(sources)
        with contextlib.closing(socket.socket()) as sock:
            sock.bind((f"127.1.{number >> 8}.{number & 255}", 0))
            sock.settimeout(10)
            sock.connect(("127.0.0.1", port))
            packet = connect_packet(name, secrets.token_hex(16))
            began = time.perf_counter()
            sock.sendall(packet)
            answer = sock.recv(4)
            seconds = time.perf_counter() - began
        if answer != b"\x20\x02\x00\x05":
            raise SystemExit(f"{name} should have been refused: {answer!r}")
        return seconds

    return {
        "wrong password": lambda: refused(next(worded)), "no token": lambda: refused(next(keyed)),
        "revoked device": lambda: refused(next(gone)), "unknown device": lambda: refused(next(fresh)),
    }  # fmt: skip


def measure(kinds: dict[str, Sample], samples: int, say: Say, what: str) -> tuple[float, str]:
    """All kinds in random turns; the largest distance in bounds, and the sentence about it."""
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    turns = [kind for kind in kinds for _ in range(samples)]
    random.shuffle(turns)
    for kind in turns:
        found[kind].append(kinds[kind]())
    distance, value, pair = worst(found)
    medians = ", ".join(f"{kind} {1e6 * float(np.median(took)):.0f} µs" for kind, took in found.items())
    say(f"  {what}: {medians}")
    say(f"    largest AUC {value:.3f} ({pair}), noise reaches 0.5 ± {bound(samples, samples):.3f}")
    return distance, pair


async def refusals(options: Options, say: Say) -> list[Row]:
    titles = {"token": "/auth/token: why", "challenge": "/auth/challenge: is there such a device", "connect": "MQTT: why"}
    distances: dict[str, list[float]] = {name: [] for name in titles}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
            system = Skerry(Path(folder))
            with (Path(folder) / "skerry.toml").open("a") as file:
                file.write(f'[devices]\nchallenge_ttl = "{TTL_S}s"\n')
            try:
                await system.start()
                found = await asyncio.to_thread(one_round, system, say)
            finally:
                await system.stop()
        for name, distance in found.items():
            distances[name].append(distance)
    return [
        median_row("refusals", f"{titles[name]}; AUC's distance from 0.5, of what noise reaches", "", "≤ 1", each)
        for name, each in distances.items()
    ]


def one_round(system: Skerry, say: Say) -> dict[str, float]:
    door = Door(system)
    try:
        return {
            "token": measure(token_kinds(door), SAMPLES, say, "/auth/token")[0],
            "challenge": measure(challenge_kinds(door), SAMPLES, say, "/auth/challenge")[0],
            "connect": measure(connect_kinds(door, system.port), SAMPLES_MQTT, say, "CONNECT")[0],
        }
    finally:
        door.close()


ROWS: dict[str, Callable[[Options, Say], Awaitable[list[Row]]]] = {"refusals": refusals}
