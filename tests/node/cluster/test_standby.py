"""The copy that a standby keeps of the founder's streams."""

from pathlib import Path

import pytest

from skerry.broker import LOG, WireClient, bucket_plan, ensure, kv_get, kv_put, load_streams, stream_state
from skerry.core.clock import ManualClock
from skerry.node.cluster.standby import AHEAD, LEAST_S, StandbyCopy, renew_records
from tests.fixtures.nats import NatsServer, put

pytestmark = pytest.mark.asyncio


async def test_it_copies_now_and_then_and_says_how_far_behind_it_is(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    clock = ManualClock(1_790_000_000_000_000)
    copy = StandbyCopy(tmp_path / "cluster", clock)
    assert (copy.place(), copy.status()) == (None, {"copied": None, "behind": None})
    await ensure(client, bucket_plan("skerry_test", 8 << 20))
    await kv_put(client, "skerry_test", "key", b"old", 0)
    for at in range(3):
        await put(client, "$MQTT.msgs.d.x", b"%d" % at)
    await copy.keep(client)
    assert copy.behind == 0
    assert copy.status()["copied"] is not None
    await put(client, "$MQTT.msgs.d.x", b"3")
    await kv_put(client, "skerry_test", "key", b"new", None)
    await copy.keep(client)
    assert copy.behind == 1, "it is too early for another copy"
    clock.advance(round(LEAST_S * 20 * 1e6))
    await copy.keep(client)
    assert copy.behind == 0

    # what is there is enough for another server
    (tmp_path / "other").mkdir()
    with NatsServer(tmp_path / "other") as other:
        there = await other.client()
        place = copy.place()
        assert place is not None
        await load_streams(there, place, 1)
        assert (await stream_state(there, LOG))["last_seq"] == (await stream_state(client, LOG))["last_seq"] == 4
        found = await kv_get(there, "skerry_test", "key")
        assert found is not None
        assert found[0] == b"new"
        there.close()
        await there.closed


async def test_records_come_again_with_later_revisions(server: NatsServer, client: WireClient) -> None:
    await ensure(client, bucket_plan("skerry_cluster", 8 << 20))
    first = await kv_put(client, "skerry_cluster", "member.a", b"one", 0)
    await kv_put(client, "skerry_cluster", "member.b", b"two", 0)
    await kv_put(client, "skerry_cluster", "member.a", b"three", first)
    await renew_records(client)
    found = [await kv_get(client, "skerry_cluster", f"member.{name}") for name in "ab"]
    assert [each[0] for each in found if each] == [b"three", b"two"]
    assert all(each[1] > AHEAD for each in found if each)
    await renew_records(client)
    again = await kv_get(client, "skerry_cluster", "member.b")
    assert again is not None
    assert (again[0], again[1] > 2 * AHEAD) == (b"two", True)


async def test_a_crash_while_it_copies_leaves_the_copy_before(server: NatsServer, client: WireClient, tmp_path: Path) -> None:
    clock = ManualClock(0)
    await put(client, "$MQTT.msgs.d.x", b"0")
    await StandbyCopy(tmp_path, clock).keep(client)
    # the next one was begun
    (tmp_path / "copy.new").mkdir()
    (tmp_path / "copy.new" / "0.snapshot").write_bytes(b"half")
    copy = StandbyCopy(tmp_path, clock)
    assert copy.place() == tmp_path / "copy"
    # it was whole, and was to take the place of the one before
    (tmp_path / "copy.new" / "0.snapshot").unlink()
    (tmp_path / "copy.new").rmdir()
    (tmp_path / "copy").rename(tmp_path / "copy.new")
    assert copy.place() == tmp_path / "copy.new"
    await copy.keep(client)
    assert copy.place() == tmp_path / "copy"
    copy.clear()
    assert copy.place() is None
