"""The brokers that the tests of this room run against."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.mqtt.brokers import Broker


@pytest_asyncio.fixture(params=["nats", "mosquitto", "aedes"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path, free_ports: Callable[[int], list[int]]) -> AsyncIterator[Broker]:
    """A broker without log-in."""
    made = Broker(request.param, tmp_path, free_ports(2), "")
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture(params=["nats", "mosquitto"])
async def guarded_broker(
    request: pytest.FixtureRequest, tmp_path: Path, free_ports: Callable[[int], list[int]]
) -> AsyncIterator[Broker]:
    """A broker that lets in `ann` with the password `secret` only."""
    made = Broker(request.param, tmp_path, free_ports(2), "secret")
    await made.start()
    yield made
    await made.stop()
