"""Whose a connection is, and ending those of one device, on a real nats-server with the call-out."""

import asyncio
from pathlib import Path

import pytest

from skerry.broker import Connections, ConnectRequest, Decision, Refusal, WireClient
from skerry.broker import connections as module
from skerry.broker.config import SYSTEM
from skerry.core.clock import SECOND, SystemClock
from skerry.core.errors import UnavailableError
from tests.broker.callout_rig import PASSWORDS, Mqtt, Rig, rig, within
from tests.broker.test_callout import NOT_AUTHORISED, Ports, granted


class House:
    """Lets in whom it is told to, after a look that may take a while; `connections` is what is tested."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.slow = asyncio.Event()
        self.slow.set()
        self.looking = 0
        self.opened = 0
        self.noted: list[tuple[str, ...]] = []
        self.rig: Rig | None = None
        self.connections = Connections(self.connect)

    def note(self, *what: str) -> None:
        self.noted.append(what)

    async def connect(self) -> WireClient:
        assert self.rig
        self.opened += 1
        return await self.rig.nats(SYSTEM, PASSWORDS[SYSTEM])

    async def decide(self, request: ConnectRequest) -> Decision:
        """Looks whether it is revoked, and answers later what it saw."""
        found = request.username not in self.revoked
        self.looking += 1
        await self.slow.wait()
        return granted(request.username or "d1") if found else Refusal("revoked")


@pytest.fixture
def house() -> House:
    return House()


class HouseRig:
    """The rig with the house on it."""

    def __init__(self, house: House, folder: Path, ports: Ports) -> None:
        self._house = house
        self._context = rig(folder, ports(3), house.decide, connections=house.connections, noted=house.note)

    async def __aenter__(self) -> Rig:
        self._house.rig = await self._context.__aenter__()
        return self._house.rig

    async def __aexit__(self, *error: object) -> None:
        self._house.connections.close()
        await self._context.__aexit__(None, None, None)


@pytest.mark.asyncio
async def test_a_kick_ends_all_of_one_device_and_nothing_of_others(house: House, tmp_path: Path, free_ports: Ports) -> None:
    async with HouseRig(house, tmp_path, free_ports) as on, on.mqtt("a", "d1") as one, on.mqtt("b", "d1") as two:
        async with on.mqtt("c", "d2") as other, on.mqtt("d", "d11") as alike:
            assert await house.connections.kick("d1") == 2
            await within(1, lambda: one.ended and two.ended)
            assert await house.connections.kick("d1") == 0
            assert await house.connections.kick("nobody") == 0
            await other.publish("devices/d2/x")
            await alike.publish("devices/d11/x")
            assert not other.ended
            assert not alike.ended
        async with on.mqtt("a", "d1") as again:
            assert again.code == 0
    assert house.opened == 1


@pytest.mark.asyncio
async def test_who_is_there_and_who_was(house: House, tmp_path: Path, free_ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    began = SystemClock().now()
    async with HouseRig(house, tmp_path, free_ports) as on, on.mqtt("a", "d1") as one, on.mqtt("b", "d1"):
        async with on.mqtt("c", "d2"):
            await one.publish("devices/d1/x")
            for _ in range(600):
                found = await house.connections.presence()
                if found["d1"].messages:
                    break
                await asyncio.sleep(0.05)
            assert (found["d1"].connections, sorted(found["d1"].client_ids), found["d2"].connections) == (2, ["a", "b"], 1)
            assert began - SECOND < found["d1"].since <= found["d1"].last < SystemClock().now() + SECOND
            assert set(await house.connections.presence("d2")) == {"d2"}
            assert await house.connections.presence("nobody") == {}
        for _ in range(600):
            gone = (await house.connections.presence("d2"))["d2"]
            if not gone.connections:
                break
            await asyncio.sleep(0.05)
        assert (gone.connections, gone.client_ids) == (0, [])
        assert gone.last >= found["d2"].since


@pytest.mark.asyncio
async def test_more_connections_than_a_page(
    house: House, tmp_path: Path, free_ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    monkeypatch.setattr(module, "MOST_REMEMBERED", 1)
    async with HouseRig(house, tmp_path, free_ports) as on:
        clients = [await on.mqtt(f"c{number}", "d1").__aenter__() for number in range(5)]
        async with on.mqtt("other", "d2") as other:
            assert await house.connections.kick("d1") == 5
            await within(1, lambda: all(client.ended for client in clients))
            assert not other.ended
        for client in clients:
            await client.__aexit__(None, None, None)


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["d1", None])
async def test_who_was_being_let_in_when_it_was_revoked_stays_out(
    house: House, tmp_path: Path, free_ports: Ports, name: str | None
) -> None:
    """Also where the server cannot know yet who it is: with a certificate and no user name."""
    house.slow.clear()
    async with HouseRig(house, tmp_path, free_ports) as on:
        entering = asyncio.create_task(on.mqtt("a", name).__aenter__())
        other = asyncio.create_task(on.mqtt("b", "d2").__aenter__())
        await within(5, lambda: house.looking == 2)
        house.revoked.add(name or "")
        await house.connections.kick("d1")
        house.slow.set()
        late, welcome = await entering, await other
        await within(2, lambda: late.ended or late.code == NOT_AUTHORISED)
        assert late.code in (None, NOT_AUTHORISED)
        assert welcome.code == 0
        assert on.callout.refused == {"kicked": 1}
        assert house.noted == [("kicked", "d1", "127.0.0.1")]
        for client in (late, welcome):
            await client.__aexit__(None, None, None)


@pytest.mark.asyncio
async def test_who_has_just_been_let_in_is_ended_before_the_server_knows_its_name(
    house: House, tmp_path: Path, free_ports: Ports
) -> None:
    """The kick is on its way before the answer of the call-out is, on another connection."""
    found: list[int] = []

    async def decide(request: ConnectRequest) -> Decision:
        asyncio.get_running_loop().call_soon(lambda: kicks.append(asyncio.create_task(house.connections.kick("d1"))))
        found.append(request.connection)
        return granted("d1")

    kicks: list[asyncio.Task[int]] = []
    async with rig(tmp_path, free_ports(3), decide, connections=house.connections) as house.rig:
        await house.connections.kick("warm")
        for number in range(20):
            client = await house.rig.mqtt(f"c{number}", "d1").__aenter__()
            await within(2, lambda at=client: at.ended or at.code == NOT_AUTHORISED)  # type: ignore[misc]  # a bound loop variable
            await client.__aexit__(None, None, None)
        await asyncio.gather(*kicks)
        assert await house.connections.kick("d1") == 0
        house.connections.close()
    assert len(found) == 20


@pytest.mark.asyncio
async def test_a_device_that_comes_back_all_the_time_is_out_for_good_when_it_is_revoked(
    house: House, tmp_path: Path, free_ports: Ports
) -> None:
    async with HouseRig(house, tmp_path, free_ports) as on:
        stop = asyncio.Event()
        last: list[Mqtt] = []

        async def hammer(name: str) -> None:
            while not stop.is_set():
                async with on.mqtt(name, "d1") as client:
                    last.append(client)
                    await asyncio.sleep(0.001)

        hammers = [asyncio.create_task(hammer(f"c{number}")) for number in range(3)]
        await asyncio.sleep(0.3)
        house.revoked.add("d1")
        await house.connections.kick("d1")
        revoked_at = len(last)
        await asyncio.sleep(0.3)
        stop.set()
        await asyncio.gather(*hammers)
        assert await house.connections.kick("d1") == 0
        late = last[revoked_at + len(hammers) :]
        assert late
        assert {client.code for client in late} == {NOT_AUTHORISED}


@pytest.mark.asyncio
async def test_whose_a_connection_is_also_when_it_has_ended(house: House, tmp_path: Path, free_ports: Ports) -> None:
    async with HouseRig(house, tmp_path, free_ports) as on:
        async with on.mqtt("a", "d1") as client:
            client.client.publish("devices/d2/x", b"x", 1)
            line = await within(5, lambda: on.log("Publish Violation"))
            connection = int(line[0].split("mid:")[1].split(" ")[0])
            assert await house.connections.device_of(connection) == "d1"
            assert await house.connections.has_client("a")
            assert not await house.connections.has_client("b")
        await within(5, lambda: client.ended)
        assert await house.connections.device_of(connection) == "d1"
        assert await house.connections.device_of(999_999) == ""
        assert not await house.connections.has_client("a")


@pytest.mark.asyncio
async def test_a_lost_connection_is_made_again_and_a_dead_server_is_said(house: House, tmp_path: Path, free_ports: Ports) -> None:
    async with HouseRig(house, tmp_path, free_ports) as on, on.mqtt("a", "d1") as client:
        assert await house.connections.kick("nobody") == 0
        house.connections.close()
        assert await house.connections.kick("d1") == 1
        await within(1, lambda: client.ended)
        assert house.opened == 2
    with pytest.raises(UnavailableError):
        await house.connections.kick("d1")


@pytest.mark.asyncio
async def test_numbers_of_a_server_that_is_gone_are_not_used_against_the_next(
    house: House, tmp_path: Path, free_ports: Ports
) -> None:
    async with HouseRig(house, tmp_path, free_ports) as on, on.mqtt("b", "d2") as bystander:
        line = await _connection_of(on, bystander)
        house.connections.granting("NOTHERSERVER", line, "d1", 0)
        assert await house.connections.kick("d1") == 0
        await bystander.publish("devices/d2/x")
        assert not bystander.ended


async def _connection_of(on: Rig, client: Mqtt) -> int:
    client.client.publish("not/its/own", b"x", 0)
    return int((await within(5, lambda: on.log("not.its.own")))[0].split("mid:")[1].split(" ")[0])


def test_grants_and_kicks_in_order(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decided before a kick is not given, whatever has been forgotten meanwhile."""
    monkeypatch.setattr(module, "MOST_REMEMBERED", 2)
    connections = house.connections

    async def kick(device: str) -> None:
        with pytest.raises(AssertionError):  # there is no server
            await connections.kick(device)

    before = connections.moment()
    assert connections.granting("N", 1, "d1", before)
    for device in ("d1", "d2", "d3", "d4"):
        asyncio.run(kick(device))
    for device in ("d1", "d2", "d3", "d4"):
        assert not connections.granting("N", 2, device, before)
        assert connections.granting("N", 2, device, connections.moment())
    assert len(connections._granted) <= 2
