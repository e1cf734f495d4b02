"""The rows "logins" and "refusals": the packet is MQTT's, and what is counted and timed is what a real node does."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from bench import refusals
from bench.logins import Made, connect_packet, devices, load, tokens
from bench.refusals import Door, challenge_kinds, connect_kinds, measure, token_kinds
from bench.run import Helper
from bench.systems import Skerry
from tests.fixtures.raw_mqtt import connect


@pytest.mark.parametrize("password", ["", "secret", "x" * 300])
def test_the_packet_is_a_connect(password: str) -> None:
    packet = connect_packet("pump", password)
    assert packet[0] == 0x10
    assert packet[1] & 127 | packet[2] << 7 == len(packet) - 3
    if len(packet) - 3 > 127:
        assert packet == connect("pump", "pump", password)


async def good_and_bad_tokens(system: Skerry, folder: Path) -> None:
    # a client id has one connection: there are more devices than log in at once
    found, rate = await tokens(system, await devices(system, 8))
    assert (set(found), rate > 0) == ({f"login-{number}" for number in range(8)}, True)
    (folder / "tokens").write_bytes(msgspec.json.encode(found))
    helper = await Helper.start("bench.logins", str(system.port), str(folder / "tokens"))
    try:
        made = msgspec.json.decode(await helper.ask("2 0.3"), type=Made)
    finally:
        await helper.stop()
    assert (made.accepted > 3, made.refused) == (True, 0)
    assert 0 < made.p50_ms <= made.slow_ms
    assert made.rate == made.accepted / made.seconds
    made = await load(system.port, [connect_packet("login-0", found["login-1"])], 1, 0.1)
    assert (made.accepted, made.refused > 0, made.p50_ms) == (0, True, float("inf"))


def every_kind_of_refusal(system: Skerry) -> None:
    said: list[str] = []
    door = Door(system)
    try:
        for kinds, samples in [(token_kinds(door), 3), (challenge_kinds(door), 3), (connect_kinds(door, system.port), 2)]:
            assert measure(kinds, samples, said.append, "it")[0] >= 0
    finally:
        door.close()
    for kind in ("bad signature", "expired challenge", "used challenge", "revoked device", "wrong password", "no token"):
        assert any(kind in line for line in said)


@pytest.mark.asyncio
async def test_a_real_node_lets_in_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # fewer of each kind, and challenges that are over soon: how often is not what is tested here
    for name, value in (("SAMPLES", 3), ("SAMPLES_MQTT", 2), ("TTL_S", 1)):
        monkeypatch.setattr(refusals, name, value)
    system = Skerry(tmp_path)
    with (tmp_path / "skerry.toml").open("a") as file:
        file.write('[devices]\nchallenge_ttl = "1s"\n')
    try:
        await system.start()
        await good_and_bad_tokens(system, tmp_path)
        await asyncio.to_thread(every_kind_of_refusal, system)
    finally:
        await system.stop()
