"""The row "tls": its packets are MQTT's, and a real node takes both loads."""

from pathlib import Path

import pytest

from bench.tls import DEVICES, Load, packet, port_of, start, text
from tests.fixtures.raw_mqtt import connect


def test_packets() -> None:
    assert packet(0xC0, b"") == b"\xc0\x00"
    assert packet(0x30, b"x" * 200)[:3] == b"\x30\xc8\x01"
    assert text("dé") == b"\0\x03d\xc3\xa9"
    assert connect("tls-1") == packet(0x10, b"\0\4MQTT\4\2\0\x3c" + text("tls-1"))


@pytest.mark.asyncio
async def test_a_real_node_takes_both(tmp_path: Path) -> None:
    system = await start(tmp_path)
    try:
        for port, ca in ((system.port, "-"), (await port_of(system), str(tmp_path / "data" / "tls" / "ca.pem"))):
            steady = await Load(port, ca).run(400.0, 0.4)
            assert 0 < steady.rate <= 450
            most = await Load(port, ca).run(0.0, 0.2)
            assert most.rate * 0.2 > DEVICES
            assert 0 < most.p50_ms <= most.p99_ms
            assert most.logins > 0
    finally:
        await system.stop()
