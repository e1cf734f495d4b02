"""From one server to three: nothing that was acknowledged is lost, sessions and retained messages are there; each step twice."""

import os
import socket
import struct
from pathlib import Path

import pytest

from skerry.broker import (
    LOG,
    MIB,
    WireClient,
    bucket_plan,
    ensure,
    kv_get,
    kv_put,
    load_streams,
    log_plan,
    save_streams,
    saved_streams,
    stream_state,
    whole,
)
from skerry.core.errors import CorruptError, RejectedError, SkerryError
from skerry.mqtt import Publisher
from tests.fixtures.nats import until
from tests.fixtures.nats_cluster import PASSWORD, RELAY, Servers
from tests.fixtures.raw_mqtt import connect, packet, text

COUNT = 300


def leave(port: int) -> None:
    """A session with a subscription at QoS 1, whose client is away."""
    with socket.create_connection(("127.0.0.1", port), 20) as peer:
        peer.sendall(connect("away", RELAY, PASSWORD, clean=False))
        assert peer.recv(4) == b"\x20\x02\x00\x00"
        peer.sendall(packet(0x82, struct.pack(">H", 1) + text("devices/#") + b"\1"))
        assert peer.recv(5)[4] == 1


def come_back(port: int, count: int) -> tuple[bool, list[bytes]]:
    """Whether the session is there, and what it was owed, acknowledged as it comes."""
    found, rest = [], b""
    with socket.create_connection(("127.0.0.1", port), 20) as peer:
        peer.sendall(connect("away", RELAY, PASSWORD, clean=False))
        head = peer.recv(4)
        while len(found) < count:
            data = peer.recv(65536)
            assert data
            rest += data
            while len(rest) > 2 and len(rest) >= 2 + rest[1]:
                assert rest[1] < 128
                body, rest = rest[2 : 2 + rest[1]], rest[2 + rest[1] :]
                (length,) = struct.unpack(">H", body[:2])
                number, payload = body[2 + length : 4 + length], body[4 + length :]
                peer.sendall(packet(0x40, number))
                found.append(payload)
    return head == b"\x20\x02\x01\x00", found


async def filled(client: WireClient, mqtt_port: int) -> None:
    """What a node has: the log with messages of devices, a bucket, a session, a retained message."""
    await ensure(client, log_plan(64 * MIB))
    await ensure(client, bucket_plan("skerry_test", 8 * MIB))
    await kv_put(client, "skerry_test", "key", b"value", 0)
    leave(mqtt_port)
    publisher = await Publisher.connect("127.0.0.1", mqtt_port, "device", RELAY, PASSWORD)
    for at in range(COUNT):
        await publisher.publish("devices/a/x", b"%d" % at, 1)
    await publisher.publish("events/p/a", b"kept", 1, retain=True)
    publisher.close()


@pytest.mark.skipif("SKERRY_SOAK" not in os.environ, reason='optional: takes too long on a busy machine; make soak ARGS="cluster"')
@pytest.mark.asyncio
async def test_one_becomes_three(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    alone = servers.alone(servers.all[0])
    folder = tmp_path / "saved"
    alone.start()
    try:
        client = await alone.client()
        await filled(client, alone.plan.mqtt_port)
        before = await stream_state(client, LOG)
        assert int(before["messages"]) == COUNT + 1
        assert saved_streams(folder) is None
        await save_streams(client, folder)
        # as after a crash: saved anew over what was saved
        saved = await save_streams(client, folder)
        assert {LOG, "KV_skerry_test", "$MQTT_sess", "$MQTT_rmsgs"} <= {each.name for each in saved}
        client.close()
    finally:
        alone.close()
    assert saved_streams(folder) == saved
    with servers:
        await until(lambda: all(len(each.routes()) == 2 for each in servers.all), 40)
        client = await servers.all[0].client()

        async def loaded() -> bool:
            # each try goes on where the one before ended
            try:
                await load_streams(client, folder, 3)
            except SkerryError:
                return False
            return True

        await until(loaded, 60)
        assert await load_streams(client, folder, 3) == []
        await until(lambda: whole(client, 3), 60)
        after = await stream_state(client, LOG)
        assert [after[key] for key in ("messages", "first_seq", "last_seq")] == [
            before[key] for key in ("messages", "first_seq", "last_seq")
        ]
        assert await kv_get(client, "skerry_test", "key") == (b"value", 1)
        assert (await stream_state(client, "$MQTT_rmsgs"))["messages"] == 1
        client.close()

        # whichever dies, the others have it all: the session, and each message that it is owed
        (await servers.leader_of(await servers.all[1].client(), LOG)).kill()
        left = next(each for each in servers.all if each.running)
        there, found = await until(lambda: returned(left.plan.mqtt_port), 90)
        assert there
        assert sorted(found, key=int) == [b"%d" % at for at in range(COUNT)]


def returned(port: int) -> tuple[bool, list[bytes]] | None:
    """What the session was owed, as soon as the server takes it."""
    try:
        return come_back(port, COUNT)
    except (OSError, AssertionError):
        return None


@pytest.mark.asyncio
async def test_what_was_not_wholly_saved_is_not_used(tmp_path: Path) -> None:
    servers = Servers(tmp_path, 1)
    alone = servers.alone(servers.all[0])
    folder = tmp_path / "saved"
    alone.start()
    try:
        client = await alone.client()
        with pytest.raises(RejectedError, match="no streams were saved here"):
            await load_streams(client, folder, 1)
        await ensure(client, log_plan(64 * MIB))
        for payload in (b"1", b"2"):
            await client.request(b"$MQTT.msgs.devices.a.x", payload)
        (saved,) = await save_streams(client, folder)
        assert saved.messages == 2
        file = folder / saved.file
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        with pytest.raises(CorruptError, match="has not its length"):
            await load_streams(client, folder, 1)
        file.write_bytes(content)
        assert await load_streams(client, folder, 1) == [], "it is there"
        await client.request(f"$JS.API.STREAM.DELETE.{LOG}".encode(), b"")
        await ensure(client, log_plan(64 * MIB))
        assert await load_streams(client, folder, 1) == [LOG], "it was there and empty, as after half a restore"
        assert (await stream_state(client, LOG))["messages"] == 2
        await client.request(f"$JS.API.STREAM.DELETE.{LOG}".encode(), b"")
        await ensure(client, log_plan(64 * MIB))
        await client.request(b"$MQTT.msgs.devices.a.x", b"of another")
        with pytest.raises(RejectedError, match="is there already and is another"):
            await load_streams(client, folder, 1)
        (folder / "streams.json").write_bytes(b"[")
        with pytest.raises(CorruptError, match="cannot be read"):
            saved_streams(folder)
        client.close()
    finally:
        alone.close()
