"""What goes into a backup and what does not."""

import pytest

from skerry.backup.contents import is_engines, is_kept, is_secret, stream_order

SECRET = [
    "keys/issuer.seed", "keys/tokens.seed", "tls/ca.key", "tls/server.key", "broker/kept.json", "tokens.json", "uplink.key.ab12",
    "cluster/joined.json", "cluster/node.key", "keys/ticket.pem",
]  # fmt: skip
KEPT = [
    "uptime.json", "paused.json", "logs/audit.log", "logs/audit-clients.log.2", "tls/ca.pem", "models/index.json",
    "models/blobs/ab", "broker/jetstream/AGENT/streams/x/msgs/1.blk", "history/format", "history/db/CURRENT", "uplink/queue",
]  # fmt: skip
LEFT = [
    "run/worker-0.pid", "lock", "skerry.sock", "backup/store/format", "restoring", "reserve", "logs/skerry.log",
    "logs/skerry.log.1", "broker/nats.conf", "broker/log/nats.log", "models/optimized/x", "models/lock", "uptime.new",
    "history/lock", "history/ballast", "history/db/LOG", "history/db/LOG.old.1",
]  # fmt: skip


@pytest.mark.parametrize("path", SECRET)
def test_secrets(path: str) -> None:
    assert is_secret(path)
    assert is_kept(path)


@pytest.mark.parametrize("path", KEPT)
def test_kept(path: str) -> None:
    assert is_kept(path)
    assert not is_secret(path)


@pytest.mark.parametrize("path", LEFT)
def test_left_out(path: str) -> None:
    assert not is_kept(path)


def test_the_engines_own_files() -> None:
    assert [name for name in ("db/LOCK", "db/LOG", "db/MANIFEST-1", "db/1.log", "ballast") if is_engines(name)] == [
        "db/LOCK", "db/LOG", "ballast",
    ]  # fmt: skip


def test_cursors_come_before_what_they_point_into() -> None:
    names = ["$MQTT_msgs", "skerry_events", "KV_skerry_cursors", "$MQTT_sess", "KV_skerry_checkpoints"]
    assert stream_order(names, "$MQTT_msgs") == [
        "KV_skerry_checkpoints", "KV_skerry_cursors", "$MQTT_sess", "skerry_events", "$MQTT_msgs",
    ]  # fmt: skip
