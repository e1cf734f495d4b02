"""Log-ins by hand, many at once: rubbish as a flood brings it, connections that say nothing, and how long a good one takes."""

import asyncio
import contextlib
import itertools
import random
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Self

import msgspec

from skerry.device import CHALLENGE_PATH, TOKEN_PATH, answer_to, token_of
from skerry.http import Client
from skerry.trust import SigningKey
from tests.fixtures.node import RunningNode, until
from tests.fixtures.raw_mqtt import connect

FROM = "127.0.0.2"
"""Where the flood comes from; all of 127.0.0.0/8 is this machine."""
ACCEPTED = 0
CLOSED = -1
PATIENCE_S, MOST_S = 10.0, 30.0
MORE_FILES = 16
DEVICES, AT_ONCE, LOOKS = 20, 256, 5
Address = tuple[str, int]


async def log_in(address: Address, user: str, password: str, *, source: str = "", tls: ssl.SSLContext | None = None) -> int:
    """The CONNACK's code of one attempt, or `CLOSED`; the connection is ended again. The client id is the user name."""
    local, name = (source, 0) if source else None, "localhost" if tls else None
    try:
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(*address, local_addr=local, ssl=tls, server_hostname=name)
            try:
                writer.write(connect(user, user, password))
                answer = await reader.read(4)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return CLOSED
    return answer[3] if len(answer) == 4 and answer[0] == 0x20 else CLOSED


async def until_in(address: Address, user: str, password: str, tls: ssl.SSLContext | None = None) -> float:
    """Seconds until a device is in, which tries again after a refusal as devices do. Fails after half a minute."""
    began = time.monotonic()
    while (code := await log_in(address, user, password, tls=tls)) != ACCEPTED:
        if time.monotonic() - began > MOST_S:
            raise AssertionError(f"{user} does not get in: {code}")
        await asyncio.sleep(0.1)
    return time.monotonic() - began


def rubbish(known: list[str], seed: int = 1) -> Iterator[tuple[str, str]]:
    """User names and passwords of a flood: unknown names, known names with guessed passwords, forged tokens, no text at all."""
    rng = random.Random(seed)
    for number in itertools.count():
        guess = f"{rng.getrandbits(128):032x}"
        token = f"st1.{guess[:11]}.9999999999.{guess[:11]}.{guess * 2}{guess[:22]}"
        yield [
            (f"nobody-{guess}", guess),
            (rng.choice(known), guess),
            (rng.choice(known), token),
            (f"\u00e4\U0001f600{number}", "x" * 5000),
        ][number % 4]


class Flood:
    """Attempts with rubbish, `at_once` at a time, until `count` are made or it is left. `codes` counts their answers."""

    def __init__(self, address: Address, known: list[str], count: int, at_once: int = 32, seed: int = 1) -> None:
        self.codes: Counter[int] = Counter()
        self._address = address
        self._pairs = rubbish(known, seed)
        self._left = count
        self._at_once = at_once
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._at_once)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            await self.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def going(self) -> bool:
        return not all(task.done() for task in self._tasks)

    async def end(self) -> None:
        """Wait until all attempts are made."""
        await asyncio.gather(*self._tasks)

    async def _work(self) -> None:
        while self._left > 0:
            self._left -= 1
            user, password = next(self._pairs)
            self.codes[await log_in(self._address, user, password, source=FROM)] += 1


@contextlib.asynccontextmanager
async def half_open(
    address: Address, count: int, said: bytes = b"", source: str = FROM
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many connections that have said this much and say no more."""
    opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection(*address, local_addr=(source, 0))
            writer.write(said)
            opened.append((reader, writer))
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in opened), return_exceptions=True)


async def ended(readers: list[asyncio.StreamReader], seconds: float) -> int:
    """How many of the connections the node has ended within so many seconds."""

    async def closed(reader: asyncio.StreamReader) -> bool:
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(seconds):
                await reader.read()
                return True
        return reader.at_eof() or reader.exception() is not None

    return sum(await asyncio.gather(*map(closed, readers)))


class Trusted:
    """Devices of a node: the first half with passwords, the other with keys, which log in anew for each attempt."""

    def __init__(self, node: RunningNode, count: int, prefix: str = "trusted") -> None:
        self._node = node
        self._secrets: dict[str, str | SigningKey] = {}
        with node.client() as client:
            for number in range(count):
                name = f"{prefix}-{number}"
                if number < count // 2:
                    self._secrets[name] = client.post("/api/v1/devices", {"id": name})["password"]
                else:
                    key = SigningKey.new()
                    client.post("/api/v1/devices", {"id": name, "key": key.public_pem()})
                    self._secrets[name] = key

    @property
    def names(self) -> list[str]:
        return list(self._secrets)

    def credentials(self) -> Iterator[tuple[str, str]]:
        """User name and password of each; a key's token is fetched when it is its turn."""
        url = f"http://{self._node.status()['broker']['http']}"
        for name, secret in self._secrets.items():
            yield name, secret if isinstance(secret, str) else token(url, name, secret)


def token(url: str, device: str, key: SigningKey) -> str:
    """A token by a challenge, over HTTP."""
    with Client(url) as client:
        return token_of(client.post(TOKEN_PATH, answer_to(device, key, client.post(CHALLENGE_PATH, {"device": device}))))[0]


class Fill(msgspec.Struct):
    """Open files and memory of agent and nats-server."""

    files: list[int]
    rss: list[int]

    @classmethod
    def of(cls, node: RunningNode) -> Self:
        processes = [node.processes(role)[0] for role in ("agent", "nats-server")]
        return cls([each.num_fds() for each in processes], [each.memory_info().rss for each in processes])

    def _more(self, node: RunningNode) -> list[int]:
        return [now - then for now, then in zip(Fill.of(node).files, self.files, strict=True)]

    def grown(self, node: RunningNode) -> list[int]:
        """MiB more than then."""
        return [(now - then) >> 20 for now, then in zip(Fill.of(node).rss, self.rss, strict=True)]

    def check(self, node: RunningNode, more_mib: int, seconds: float = 15.0) -> None:
        """Hardly more files than before (a log that is written to for the first time), and not much more memory.

        A password that is still being checked holds 16 MiB, and what is free goes back to the system some seconds later.
        """
        try:
            until(lambda: max(self._more(node)) <= MORE_FILES and max(self.grown(node)) < more_mib, seconds, "as it was before")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self._more(node)} more files, {self.grown(node)} MiB more") from error


class Seen(msgspec.Struct):
    """Seconds that good log-ins took, and what the node's memory had grown by at each look."""

    seconds: list[float] = []
    grown: list[list[int]] = []

    def sentence(self) -> str:
        took = sorted(self.seconds)
        p50, p99 = (1000 * took[int(part * len(took))] for part in (0.5, 0.99))
        first, last = self.grown[0], self.grown[-1]
        return (
            f"{len(took)} good log-ins meanwhile, p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {1000 * took[-1]:.0f} ms; memory of "
            f"agent and nats-server {first[0]:+d}, {first[1]:+d} MiB at first and {last[0]:+d}, {last[1]:+d} MiB at the end"
        )


async def flooded(node: RunningNode, attempts: int, silent: int, tls: ssl.SSLContext) -> list[str]:
    """The whole floods: what came of each, in a sentence. Fails where one got in, or where memory goes on growing."""
    trusted, before, broker = Trusted(node, DEVICES), Fill.of(node), node.status()["broker"]
    host, _, port = broker["mqtts"].rpartition(":")
    sentences = [await _rubbish(node, trusted, before, attempts), await _silence(node, trusted, before, silent, node.mqtt, None)]
    return [*sentences, await _silence(node, trusted, before, silent, (host, int(port)), tls)]


async def _rubbish(node: RunningNode, trusted: Trusted, before: Fill, attempts: int) -> str:
    seen, began, codes = Seen(), time.monotonic(), Counter[int]()
    for part in range(LOOKS):
        async with Flood(node.mqtt, trusted.names, attempts // LOOKS, AT_ONCE, seed=part) as flood:
            while flood.going:
                for user, password in trusted.credentials():
                    seen.seconds.append(await until_in(node.mqtt, user, password))
        codes += flood.codes
        seen.grown.append(before.grown(node))
    assert codes.total() == attempts // LOOKS * LOOKS
    assert codes[ACCEPTED] == 0
    before.check(node, 160, 40.0)
    seen.grown.append(before.grown(node))
    spent = time.monotonic() - began
    return f"{codes.total()} log-ins with rubbish, {codes.total() / spent:.0f}/s, none let in: {seen.sentence()}"


async def _silence(
    node: RunningNode, trusted: Trusted, before: Fill, count: int, address: Address, tls: ssl.SSLContext | None
) -> str:
    seen = Seen()
    for _ in range(3):
        async with half_open(address, count) as readers:
            ending = asyncio.create_task(ended(readers, 20))
            while not ending.done():
                for user, password in trusted.credentials():
                    seen.seconds.append(await until_in(address, user, password, tls))
            assert await ending == count
        seen.grown.append(before.grown(node))
    before.check(node, 160, 40.0)
    seen.grown.append(before.grown(node))
    return f"3 times {count} connections that say nothing{', with TLS' if tls else ''}, all ended by the node: {seen.sentence()}"
