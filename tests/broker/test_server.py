"""The supervised nats-server, with the real one."""

import asyncio
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from skerry.broker import BrokerConfig, NatsServer, StreamPlan, WireClient, ensure, stream_state
from skerry.broker.binary import VARIABLE
from skerry.core.clock import SystemClock
from skerry.core.errors import SkerryError
from skerry.core.service import cancel_and_wait

ISSUER = "ABJHLOVMPA4CI6R5KLNGOB4GSLNIY7IOUPAJC4YFNDLQVIOBYQGUWVLA"
MIB = 1024 * 1024
STREAM = StreamPlan("S", ("s.>",), 16 * MIB)


def made(data_dir: Path, mqtt: str = "127.0.0.1:0", max_store: int = 64 * MIB) -> NatsServer:
    return NatsServer(BrokerConfig(mqtt=mqtt), data_dir, ISSUER, max_store, SystemClock())


@asynccontextmanager
async def running(server: NatsServer, *, ready: bool = True) -> AsyncIterator[NatsServer]:
    task = asyncio.create_task(server.run())
    try:
        if ready:
            async with asyncio.timeout(15):
                await server.ready.wait()
        yield server
        assert not task.done(), "run() ended by itself"
    finally:
        await cancel_and_wait(task)


async def until(what: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.02)


async def connected(server: NatsServer) -> WireClient:
    return await WireClient.connect(server.host, server.port, server.user, server.password, "test")


async def stored(client: WireClient, payload: bytes = b"x") -> bool:
    try:
        async with asyncio.timeout(1):
            return b'"seq"' in (await client.request(b"s.a", payload))[3]
    except (TimeoutError, SkerryError):
        return False


@pytest.mark.asyncio
async def test_it_is_ready_soon_and_ends_with_run(tmp_path: Path) -> None:
    server = made(tmp_path)
    began = time.monotonic()
    async with running(server):
        took = time.monotonic() - began
        host, _, port = server.mqtt_address.rpartition(":")
        with socket.create_connection((host, int(port)), 1):
            pass
        pid = server.pid
        assert pid is not None
        assert server.status == f"nats-server {server.version} serves MQTT on {server.mqtt_address}"
        assert (server.nats_url, server.monitor_url.rpartition(":")[0]) == (f"nats://127.0.0.1:{server.port}", "http://127.0.0.1")
        began = time.monotonic()
    assert took < 3
    assert time.monotonic() - began < 2
    assert not psutil.pid_exists(pid)
    assert (server.pid, server.status, server.ready.is_set(), server.restarts) == (None, "the broker is stopped", False, 0)
    assert not (tmp_path / "run" / "nats-server.pid").exists()
    assert "Server Exiting" in (tmp_path / "broker" / "log" / "nats.log").read_text()


@pytest.mark.asyncio
async def test_others_can_read_nothing(tmp_path: Path) -> None:
    async with running(made(tmp_path)):
        for name in ("broker", "run"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700
        for name in ("broker/nats.conf", "broker/kept.json", "run/nats-server.pid"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


@pytest.mark.asyncio
async def test_ports_passwords_and_messages_stay_over_restarts(tmp_path: Path) -> None:
    places = []
    for _ in range(2):
        async with running(made(tmp_path)) as server:
            client = await connected(server)
            await ensure(client, STREAM)
            assert await stored(client)
            places.append((server.port, server.monitor_url, server.mqtt_address, server.password, server.relay_password))
            messages = (await stream_state(client, "S"))["messages"]
            client.close()
    assert places[0] == places[1]
    assert messages == 2


@pytest.mark.asyncio
async def test_a_port_that_was_taken_meanwhile_is_replaced(tmp_path: Path) -> None:
    async with running(made(tmp_path)) as server:
        port, mqtt = server.port, server.mqtt_address
    with socket.create_server(("127.0.0.1", port)):
        async with running(made(tmp_path)) as server:
            assert server.port != port
            assert server.mqtt_address == mqtt


@pytest.mark.asyncio
async def test_kill_9_is_mended_on_the_same_ports(tmp_path: Path) -> None:
    async with running(made(tmp_path)) as server:
        before = (server.pid, server.port, server.mqtt_address)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: not server.ready.is_set())
        assert server.status == "the broker is started again: ended by SIGKILL"
        await until(server.ready.is_set)
        assert (server.port, server.mqtt_address) == before[1:]
        assert server.pid != before[0]
        assert server.restarts == 1


@pytest.mark.asyncio
async def test_it_is_started_again_when_that_is_asked_for(tmp_path: Path) -> None:
    server = made(tmp_path)
    async with running(server):
        before = server.pid
        server.start_again("somebody asked")
        await until(lambda: server.pid not in (None, before) and server.ready.is_set())
        assert server.restarts == 1
        await asyncio.sleep(1.2)
        assert server.restarts == 1


@pytest.mark.asyncio
async def test_one_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skerry.broker.server.HANGS_S", 1.0)
    monkeypatch.setattr("skerry.broker.health.PATIENCE_S", 0.2)
    async with running(made(tmp_path)) as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        await until(lambda: server.restarts == 1 and server.ready.is_set())


@pytest.mark.asyncio
async def test_its_complaints_are_passed_on(tmp_path: Path) -> None:
    server = made(tmp_path)
    heard: list[str] = []
    server.listeners.append(heard.append)
    async with running(server):
        with pytest.raises(SkerryError):
            await WireClient.connect(server.host, server.port, "agent", "wrong", "intruder")
        await until(lambda: any("authentication error" in text for text in heard))
    assert not any("Plaintext" in text for text in heard)


@pytest.mark.asyncio
async def test_a_taken_mqtt_port_is_named_with_its_owner_and_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = made(tmp_path, mqtt=address)
        task = asyncio.create_task(server.run())
        await until(lambda: "does not run" in server.status)
        mine = psutil.Process().name()
        assert server.status == (
            f"the broker does not run: {address} is taken by {mine} (pid {os.getpid()}); stop it, or set another broker.mqtt"
        )
        assert (server.pid, server.restarts) == (None, 0)
    await until(server.ready.is_set)
    assert server.mqtt_address == address
    await cancel_and_wait(task)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("mqtt", "says"),
    [
        ("192.0.2.1:1883", "cannot listen on 192.0.2.1:1883: Cannot assign requested address"),
        ("a.invalid:1883", "cannot listen on a.inv"),
    ],
)
async def test_an_address_that_is_not_ours(tmp_path: Path, mqtt: str, says: str) -> None:
    async with running(made(tmp_path, mqtt), ready=False) as server:
        await until(lambda: says in server.status)
        assert server.status.endswith("; set another broker.mqtt")


@pytest.mark.asyncio
async def test_a_directory_that_cannot_be_written_is_named_and_waited_for(tmp_path: Path) -> None:
    (tmp_path / "broker").write_text("a file in the way")
    async with running(made(tmp_path), ready=False) as server:
        await until(lambda: "does not run" in server.status)
        assert server.status == (
            f"the broker does not run: {tmp_path / 'broker'} cannot be written: File exists; check node.data_dir"
        )
        (tmp_path / "broker").unlink()
        await until(server.ready.is_set)


@pytest.mark.asyncio
async def test_a_server_that_is_too_old_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.9.1\n")
    old.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(old))
    async with running(made(tmp_path / "data"), ready=False) as server:
        await until(lambda: "does not run" in server.status)
        assert f"{old}: is nats-server 2.9.1, skerry needs 2.11 or newer" in server.status
        monkeypatch.delenv(VARIABLE)
        await until(server.ready.is_set)


@pytest.mark.asyncio
async def test_a_refused_configuration_is_told_in_the_servers_words(tmp_path: Path) -> None:
    server = NatsServer(BrokerConfig(mqtt="127.0.0.1:0"), tmp_path, "NOKEY", 64 * MIB, SystemClock())
    async with running(server, ready=False):
        await until(lambda: "does not run" in server.status)
        assert "nats-server refuses its configuration:" in server.status
        assert "issuer" in server.status.lower() or "public" in server.status.lower()


@pytest.mark.asyncio
async def test_a_damaged_stream_is_named_kept_and_gone_on_without(tmp_path: Path) -> None:
    async with running(made(tmp_path)) as server:
        client = await connected(server)
        await ensure(client, STREAM)
        assert await stored(client)
        client.close()
    stream = tmp_path / "broker" / "jetstream" / "jetstream" / "AGENT" / "streams" / "S"
    meta = bytearray((stream / "meta.inf").read_bytes())
    meta[20] ^= 0xFF
    (stream / "meta.inf").write_bytes(meta)
    async with running(made(tmp_path), ready=False) as server:
        await until(lambda: "does not run" in server.status)
        assert server.status == (
            f"the broker does not run: the stream S cannot be recovered; nothing was deleted, it is in {stream}; "
            "restore the broker directory from a backup, or move that one away to go on without what it holds"
        )
        assert (stream / "msgs" / "1.blk").stat().st_size > 0
        shutil.move(stream, tmp_path / "damaged")
        await until(server.ready.is_set)


@pytest.mark.asyncio
async def test_a_store_larger_than_the_disk_is_warned_of(tmp_path: Path) -> None:
    room = shutil.disk_usage(tmp_path).free
    async with running(made(tmp_path, max_store=room + (64 << 30))) as server:
        assert server.warning.startswith(f"the broker may come to store {(room + (64 << 30)) >> 20} MiB and the disk has room for")
    async with running(made(tmp_path)) as server:
        assert server.warning == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("optional: a small file system can be mounted by root only")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.asyncio
async def test_a_full_disk_is_waited_out(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(14 * MIB))
    async with running(made(small_disk / "data")) as server:
        client = await connected(server)
        await ensure(client, STREAM)
        count = 0
        while await stored(client, bytes(100_000)):
            count += 1
        await until(lambda: not server.ready.is_set())
        await until(lambda: server.status.startswith("the disk is full: devices get no acknowledgement until 8 MiB are free for"))
        assert server.restarts == 0
        ballast.unlink()
        await until(lambda: server.restarts == 1 and server.ready.is_set())
        client.close()
        client = await connected(server)
        assert (await stream_state(client, "S"))["messages"] == count, "what was acknowledged is not what is there"
        assert await stored(client)
        client.close()


@pytest.mark.asyncio
async def test_a_disk_that_is_full_at_the_start(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"):
        ballast.write_bytes(bytes(32 * MIB))
    async with running(made(small_disk / "data"), ready=False) as server:
        await until(lambda: server.status == "the broker does not run: the disk is full; make room")
        ballast.unlink()
        await until(server.ready.is_set)


AGENT = """
import asyncio, sys
from pathlib import Path
from skerry.broker import BrokerConfig, NatsServer
from skerry.core import log
from skerry.core.clock import SystemClock
from skerry.runtime import run_loop

async def main():
    log.configure(quiet=True)
    server = NatsServer(BrokerConfig(mqtt="127.0.0.1:0"), Path(sys.argv[1]), sys.argv[2], 64 << 20, SystemClock())
    task = asyncio.create_task(server.run())
    await server.ready.wait()
    print(server.pid, server.mqtt_address, flush=True)
    await task

run_loop(main())
"""


@pytest.mark.asyncio
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
async def test_what_a_killed_agent_left_is_ended_before_the_next_starts(tmp_path: Path, stopped: bool) -> None:
    argv = [sys.executable, "-c", AGENT, str(tmp_path), ISSUER]
    agent = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert agent.stdout is not None
        words = (await asyncio.wait_for(agent.stdout.readline(), 15)).split()
        pid, address = int(words[0]), words[1].decode()
        if stopped:
            # the kernel's SIGTERM at its parent's death waits until it goes on: it is left over for certain
            os.kill(pid, signal.SIGSTOP)
    finally:
        agent.kill()
        await agent.wait()
    assert not stopped or psutil.pid_exists(pid)
    async with running(made(tmp_path)) as server:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        assert server.pid != pid
        assert server.mqtt_address == address


@pytest.mark.asyncio
async def test_rubbish_in_what_it_kept_does_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "kept.json").write_text("{")
    async with running(made(tmp_path)) as server:
        kept = json.loads((tmp_path / "broker" / "kept.json").read_bytes())
        assert len({kept["agent"], kept["relay"], kept["system"]}) == 3
        assert all(len(kept[name]) == 48 for name in ("agent", "relay", "system"))
        assert server.password == kept["agent"]
