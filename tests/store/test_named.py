"""A table of a store behind the port `KeyValue`, and what is built on that port: trusted devices that outlive the process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from skerry import DeviceAuthenticator
from skerry.store import KeyValueStore, NamedValues, StorageConfig
from tests.contracts.key_value import KeyValueContract


class TestNamedValues(KeyValueContract):
    @pytest_asyncio.fixture(params=["disk", "memory"])
    async def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[NamedValues]:
        async with KeyValueStore(StorageConfig(path=tmp_path / "kv"), memory=request.param == "memory") as kv:
            yield NamedValues(kv, "names")


@pytest.mark.asyncio
async def test_trusted_devices_are_kept_in_a_store_beside_other_values(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    async with KeyValueStore(StorageConfig(path=tmp_path / "kv")) as kv:
        await kv.set(b"pump-1", b"something else")
        auth = DeviceAuthenticator(kv)
        await auth.add_trusted_device("pump-1", key.public_key().public_bytes_raw())
    async with KeyValueStore(StorageConfig(path=tmp_path / "kv")) as kv:
        auth = DeviceAuthenticator(kv)
        assert [device.id for device in await auth.trusted_devices()] == ["pump-1"]
        challenge = await auth.generate_challenge("pump-1")
        signature = key.sign(b"skerry-login-v1\0pump-1\0" + challenge)
        assert await auth.verify_response("pump-1", challenge, signature)
        assert not await auth.verify_response("pump-1", challenge, signature)
        assert await kv.get(b"pump-1") == b"something else"
