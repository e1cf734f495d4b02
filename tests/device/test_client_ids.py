"""Whose a client id is: the first device's, over restarts, until it is unused for long or the device is removed."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from skerry.core.clock import ManualClock
from skerry.core.errors import UnavailableError
from skerry.device import ClientIds, client_ids
from skerry.device.client_ids import FORGET_DAYS, MOST_A_DEVICE, PREFIX
from tests.contracts.key_value import MemoryKeyValue

DAY = 24 * 3600 * 1_000_000
NOBODY = "$anonymous"


class Store(MemoryKeyValue):
    """Counts the writes, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.away = False

    async def set(self, key: str, value: bytes) -> None:
        self.writes += 1
        if self.away:
            raise UnavailableError("the store is away")
        await asyncio.sleep(0)
        await super().set(key, value)


class World:
    """A store, a clock, the registered devices and the connected clients; `ids` is one life of the node."""

    def __init__(self) -> None:
        self.store = Store()
        self.clock = ManualClock(1_800_000_000_000_000)
        self.devices = {"d1", "d2", "d3"}
        self.connected: set[str] = set()
        self.asked = 0
        self.ids = self.life()

    def life(self) -> ClientIds:
        return ClientIds(self.store, self.clock, self.registered, in_use=self.in_use)

    async def registered(self, name: str) -> bool:
        self.asked += 1
        await asyncio.sleep(0)
        return name in self.devices

    async def in_use(self, client_id: str) -> bool:
        return client_id in self.connected

    async def restart(self) -> None:
        self.ids = self.life()
        await self.ids.load()


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.asyncio
async def test_the_first_owns_it_over_a_restart_too(world: World) -> None:
    assert await world.ids.claim("c", "d1")
    assert not await world.ids.claim("c", "d2")
    await world.restart()
    assert not await world.ids.claim("c", "d2")
    assert await world.ids.claim("c", "d1")
    assert world.ids.of("d1") == ["c"]
    assert world.ids.of("d2") == []


@pytest.mark.asyncio
async def test_a_device_may_have_several_and_each_is_its_own(world: World) -> None:
    assert [await world.ids.claim(client_id, "d1") for client_id in ("a", "b", "d1")] == [True, True, True]
    assert [await world.ids.claim(client_id, "d2") for client_id in ("a", "b", "d1", "c")] == [False, False, False, True]
    assert world.ids.of("d1") == ["a", "b"]


@pytest.mark.asyncio
async def test_the_id_of_a_device_is_that_devices_also_when_another_had_it_first(world: World) -> None:
    assert await world.ids.claim("late", "d1")
    world.devices.add("late")
    assert await world.ids.claim("late", "d1")
    assert await world.ids.claim("late", "late")
    assert not await world.ids.claim("late", "d1")
    await world.restart()
    assert not await world.ids.claim("late", "d1")
    assert await world.ids.claim("late", "late")


@pytest.mark.asyncio
@pytest.mark.parametrize("device", ["d1", NOBODY, "$skerry-rock"])
async def test_the_nodes_own_connections_are_nobodys(world: World, device: str) -> None:
    assert not await world.ids.claim("$skerry-rock", device)
    assert await world.ids.claim("skerry-rock", device)


@pytest.mark.asyncio
async def test_what_another_node_gave_away_is_looked_at_before_a_client_id_gets_an_owner(world: World) -> None:
    there = world.life()

    async def look() -> None:
        for key, data in await world.store.items(PREFIX):
            world.ids.learn(key, data)

    world.ids.look = look
    assert await there.claim("panel", "d1")
    assert not await world.ids.claim("panel", "d2")
    assert await world.ids.claim("panel", "d1")
    await there.forget("d1")
    world.ids.learn(PREFIX + "d1", None)
    assert await world.ids.claim("panel", "d2")
    assert world.ids.of("d1") == []


@pytest.mark.asyncio
async def test_clients_without_a_name_own_none_and_get_none_that_is_a_devices(world: World) -> None:
    assert await world.ids.claim("free", NOBODY)
    assert await world.ids.claim("free", "d1")
    assert not await world.ids.claim("free", NOBODY)
    assert not await world.ids.claim("d2", NOBODY)
    assert world.store.writes == 1


@pytest.mark.asyncio
async def test_a_storm_of_reconnects_reads_and_writes_nothing(world: World) -> None:
    assert await world.ids.claim("c", "d1")
    writes, reads, asked = world.store.writes, world.store.reads, world.asked
    for _ in range(1000):
        assert await world.ids.claim("c", "d1")
        assert await world.ids.claim("d1", "d1")
    assert (world.store.writes, world.store.reads, world.asked) == (writes, reads, asked)
    assert writes == 1


@pytest.mark.asyncio
async def test_ids_that_the_server_makes_are_not_kept(world: World) -> None:
    made = [f"RB3Pv9sZliTpzoSgOSY{number:03}" for number in range(300)]
    made += [f"skerry-{number:016x}" for number in range(300)]
    for client_id in made:
        assert await world.ids.claim(client_id, "d1")
    assert world.store.writes == 0
    assert not await world.ids.claim(made[-1], "d2")
    assert await world.ids.claim(made[-1], "d1")
    assert world.ids.of("d1") == [made[-1]]
    await world.restart()
    assert not await world.ids.claim(made[-1], "d2")


@pytest.mark.asyncio
async def test_what_is_not_used_for_long_is_free_unless_it_is_connected(world: World) -> None:
    assert await world.ids.claim("c", "d1")
    world.clock.advance(FORGET_DAYS * DAY)
    assert not await world.ids.claim("c", "d2")
    world.clock.advance(DAY)
    world.connected.add("c")
    assert not await world.ids.claim("c", "d2")
    world.connected.clear()
    assert await world.ids.claim("c", "d2")
    assert not await world.ids.claim("c", "d1")
    await world.restart()
    assert not await world.ids.claim("c", "d1")


@pytest.mark.asyncio
async def test_using_it_keeps_it(world: World) -> None:
    for _ in range(10):
        assert await world.ids.claim("c", "d1")
        world.clock.advance(FORGET_DAYS * DAY // 2)
        await world.restart()
    assert not await world.ids.claim("c", "d2")
    assert world.store.writes == 10


@pytest.mark.asyncio
async def test_a_clock_that_jumps_does_not_give_it_away_to_the_next(world: World) -> None:
    assert await world.ids.claim("c", "d1")
    world.clock.set(1_000_000)
    assert not await world.ids.claim("c", "d2")
    assert await world.ids.claim("c", "d1")
    assert world.store.writes == 2


@pytest.mark.asyncio
async def test_what_a_removed_device_had_is_free(world: World) -> None:
    for client_id in ("a", "RB3Pv9sZliTpzoSgOSYA01"):
        assert await world.ids.claim(client_id, "d1")
    world.devices.discard("d1")
    await world.ids.forget("d1")
    assert await world.ids.claim("a", "d2")
    assert await world.ids.claim("RB3Pv9sZliTpzoSgOSYA01", "d2")
    await world.ids.forget("nobody")
    await world.restart()
    assert world.ids.of("d1") == []


@pytest.mark.asyncio
async def test_a_log_in_that_was_under_way_when_the_device_was_removed_leaves_nothing_that_lasts(world: World) -> None:
    world.devices.discard("d1")
    await world.ids.forget("d1")
    assert await world.ids.claim("a", "d1")
    assert await world.ids.claim("a", "d2")
    assert not await world.ids.claim("a", "d3")


@pytest.mark.asyncio
async def test_of_two_at_the_same_moment_one_gets_it(world: World) -> None:
    answers = await asyncio.gather(*[world.ids.claim("c", device) for device in ("d1", "d2", "d3", "d1")])
    assert answers == [True, False, False, True]
    assert not await world.ids.claim("c", "d2")


@pytest.mark.asyncio
async def test_a_store_that_is_away_is_written_to_with_the_next_claim(world: World) -> None:
    world.store.away = True
    with pytest.raises(UnavailableError):
        await world.ids.claim("c", "d1")
    with pytest.raises(UnavailableError):
        await world.ids.claim("c", "d1")
    world.store.away = False
    assert await world.ids.claim("c", "d1")
    writes = world.store.writes
    assert await world.ids.claim("c", "d1")
    assert world.store.writes == writes
    await world.restart()
    assert not await world.ids.claim("c", "d2")


@pytest.mark.asyncio
async def test_a_device_keeps_the_last_of_many(world: World) -> None:
    for number in range(MOST_A_DEVICE + 5):
        assert await world.ids.claim("old", "d1")
        assert await world.ids.claim(f"c{number}", "d1")
    assert len(world.ids.of("d1")) == MOST_A_DEVICE
    assert world.ids.of("d1")[-2:] == ["old", f"c{MOST_A_DEVICE + 4}"]
    assert await world.ids.claim("c0", "d2")
    await world.restart()
    assert not await world.ids.claim("old", "d2")


@pytest.mark.asyncio
async def test_what_is_beyond_the_bound_is_let_in_and_owned_by_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_ids, "MOST", 2)
    monkeypatch.setattr(client_ids, "ONCE_REMEMBERED", 2)
    for client_id in ("a", "b", "c", *(f"RB3Pv9sZliTpzoSgOSYA0{number}" for number in range(5))):
        assert await world.ids.claim(client_id, "d1")
    assert world.ids.of("d1") == ["a", "b"]
    assert await world.ids.claim("c", "d2")
    assert len(world.ids._once) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("client_id", ["Ä", "c\u200b", "ｃ", "x" * 65_535, "a b", "../c", "commands/d1", ""])
async def test_odd_ids_are_ids_like_others(world: World, client_id: str) -> None:
    assert await world.ids.claim("c", "d2")
    assert await world.ids.claim(client_id, "d1")
    assert not await world.ids.claim(client_id, "d2")
    await world.restart()
    assert not await world.ids.claim(client_id, "d2")
    assert len(world.store.values[PREFIX + "d1"]) < 200


@pytest.mark.asyncio
async def test_records_that_cannot_be_read_are_passed_over(world: World) -> None:
    assert await world.ids.claim("c", "d1")
    world.store.values[PREFIX + "d2"] = b"rubbish"
    world.store.values[PREFIX + "d3"] = b'{"c": 5}'
    await world.restart()
    assert not await world.ids.claim("c", "d3")
    assert await world.ids.claim("e", "d2")


IDS = st.sampled_from(["a", "b", "d1", "d2", "new"])
NAMES = st.sampled_from(["d1", "d2", "d3", "new", NOBODY])


class Owners(RuleBasedStateMachine):
    """Whatever happens in whatever order: a client id has one owner, who is a device, and a device's own id is never another's."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.owner: dict[str, str] = {}

    @rule(client_id=IDS, device=NAMES)
    def claim(self, client_id: str, device: str) -> None:
        if device != NOBODY and device not in self.world.devices:
            return
        allowed = asyncio.run(self.world.ids.claim(client_id, device))
        if client_id == device:
            self.owner.pop(client_id, None)
            expected = True
        elif self.owner.get(client_id) == device:
            expected = True
        else:
            expected = client_id not in self.owner and client_id not in self.world.devices
        assert allowed == expected
        if allowed and device not in (client_id, NOBODY):
            self.owner[client_id] = device

    @rule(device=st.sampled_from(["d1", "d2", "d3", "new"]))
    def remove(self, device: str) -> None:
        self.world.devices.discard(device)
        asyncio.run(self.world.ids.forget(device))
        self.owner = {client_id: owner for client_id, owner in self.owner.items() if owner != device}

    @rule(device=st.sampled_from(["d1", "d2", "d3", "new"]))
    def add(self, device: str) -> None:
        self.world.devices.add(device)

    @rule()
    def restart(self) -> None:
        asyncio.run(self.world.restart())

    @invariant()
    def owners_are_as_expected(self) -> None:
        owned = {client_id: device for device in ("d1", "d2", "d3", "new", NOBODY) for client_id in self.world.ids.of(device)}
        assert owned == self.owner


TestOwners = Owners.TestCase
TestOwners.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@given(st.text(max_size=300), st.text(max_size=300))
@settings(max_examples=100, deadline=None)
def test_different_texts_are_kept_as_different_names(one: str, other: str) -> None:
    assert (client_ids._name(one) == client_ids._name(other)) == (one == other)
    assert len(client_ids._name(one)) <= client_ids.LONGEST
