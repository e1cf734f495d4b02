"""OPC UA signed and encrypted, against asyncua's own server: who trusts whom, and what is said where nobody does."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate, load_pem_x509_certificate

from skerry.connector import parse_connector
from skerry.core.errors import ConfigError, SkerryError
from skerry.trust import application_identity, certificate_facts
from tests.connector.contract import opened, take

URI = "urn:press:server"
BOTH = [ua.SecurityPolicyType.Basic256Sha256_Sign, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]


class Users:
    """Ann may read, with her password; without a name nobody gets in."""

    def get_user(self, iserver: Any, username: str = "", password: str = "", certificate: Any = None) -> User | None:
        return User(role=UserRole.User, name="ann") if (username, password) == ("ann", "secret") else None


class Machine:
    """A server that offers encrypted endpoints, and what it was shown. `takes`: the clients' certificates that it trusts."""

    def __init__(self, port: int, folder: Path, policies: list[ua.SecurityPolicyType]) -> None:
        self.port, self.cert, self.key = port, folder / "press.pem", folder / "press.key"
        self.takes: list[bytes] = []
        self.seen: list[str] = []
        self._policies = policies
        application_identity(self.cert, self.key, "press", URI)

    async def judge(self, certificate: Certificate, application: ua.ApplicationDescription) -> None:
        self.seen.append(str(application.ApplicationUri))
        if certificate.public_bytes(Encoding.PEM) not in self.takes:
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    @asynccontextmanager
    async def runs(self, users: Users | None = None) -> AsyncIterator[None]:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        server = Server(user_manager=users)
        await server.init()
        await server.set_application_uri(URI)
        server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}/")
        server.set_security_policy(self._policies)
        await server.load_certificate(str(self.cert))
        await server.load_private_key(str(self.key), format="pem")
        server.set_certificate_validator(self.judge)
        space = await server.register_namespace("urn:press")
        await server.nodes.objects.add_variable(f"ns={space};s=Speed", "Speed", 12.5)
        async with server:
            yield


def table(port: int, security: str = "encrypt", server: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    servers = [{"name": "press-1", "url": f"opc.tcp://127.0.0.1:{port}/", **(server or {})}]
    nodes = [{"name": "speed", "id": "ns=2;s=Speed"}]
    return {"name": "hall", "kind": "opcua", "servers": servers, "nodes": nodes, "timeout": "20s", "security": security, **more}


async def refused(given: dict[str, Any], folder: Path) -> str:
    with pytest.raises(SkerryError) as caught:
        await opened(given, folder).test()
    return str(caught.value)


@pytest.mark.asyncio
async def test_both_sides_are_asked_and_then_values_come(free_port: int, tmp_path: Path) -> None:
    machine, own = Machine(free_port, tmp_path, BOTH), tmp_path / "opcua"
    fingerprint = certificate_facts(machine.cert.read_bytes()).fingerprint
    async with machine.runs():
        said = await refused(table(free_port), tmp_path)
        assert f"press-1: its certificate is not trusted: {fingerprint}; compare that with what the server shows, and move" in said
        assert machine.seen == []  # nothing was said to who is not trusted
        (own / "trusted").mkdir()
        (own / "rejected" / "press-1.pem").rename(own / "trusted" / "press-1.pem")
        said = await refused(table(free_port), tmp_path)
        ours = (own / "own.pem").read_bytes()
        assert f"have it trust our certificate {own / 'own.pem'} ({certificate_facts(ours).fingerprint})" in said
        machine.takes.append(ours)
        for security in ("encrypt", "sign"):
            source = opened(table(free_port, security), tmp_path)
            assert await source.test() == "1 device answered"
            found, _ = await take(source, b"", 1, settled=False)
            assert json.loads(found[0].payload)["speed"] == 12.5
        assert set(machine.seen) == {"urn:skerry:sea:rock"}
        assert (own / "own.pem").read_bytes() == ours
        assert (own / "own.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.asyncio
async def test_a_pinned_certificate_a_user_and_a_certificate_of_ones_own(free_port: int, tmp_path: Path) -> None:
    machine = Machine(free_port, tmp_path, BOTH)
    application_identity(tmp_path / "mine.pem", tmp_path / "mine.key", "mine", "urn:mine")
    application_identity(tmp_path / "other.pem", tmp_path / "other.key", "other", "urn:other")
    machine.takes.append((tmp_path / "mine.pem").read_bytes())
    der = load_pem_x509_certificate(machine.cert.read_bytes()).public_bytes(Encoding.DER)
    (tmp_path / "press.der").write_bytes(der)
    (tmp_path / "pw").write_text("secret\n")
    (tmp_path / "wrong").write_text("other\n")
    mine = {"cert": "mine.pem", "key": "mine.key"}
    ann = {"username": "ann", "password_file": "pw"}
    async with machine.runs(Users()):
        good = table(free_port, server={"cert": "press.der", **ann}, **mine)
        assert await opened(good, tmp_path).test() == "1 device answered"
        assert machine.seen[-1] == "urn:mine"
        said = await refused(table(free_port, server={"cert": "other.pem", **ann}, **mine), tmp_path)
        assert "press-1: it has another certificate than" in said
        wrong = {"username": "ann", "password_file": "wrong", "cert": "press.der"}
        assert "User does not have permission" in await refused(table(free_port, server=wrong, **mine), tmp_path)
    assert not (tmp_path / "opcua" / "own.key").exists()


@pytest.mark.asyncio
async def test_a_policy_that_the_server_has_not_is_said_with_those_that_it_has(free_port: int, tmp_path: Path) -> None:
    machine = Machine(free_port, tmp_path, [ua.SecurityPolicyType.NoSecurity, BOTH[0]])
    async with machine.runs():
        said = await refused(table(free_port), tmp_path)
    assert "it has no Basic256Sha256 SignAndEncrypt, but Basic256Sha256 Sign, None None_; switch on Basic256Sha256 there" in said


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    for more, complaint in (
        ({"security": "none", "trusted": "x"}, "certificates are of no use without it"),
        ({"cert": "x"}, "certificate and key go together"),
        ({"security": "rsa"}, "c.security: 'rsa' is not known"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            parse_connector({**table(4840), **more}, "c")


@pytest.mark.asyncio
async def test_files_that_cannot_be_used_are_named(free_port: int, tmp_path: Path) -> None:
    machine = Machine(free_port, tmp_path, BOTH)
    (tmp_path / "opcua" / "trusted").mkdir(parents=True)
    (tmp_path / "opcua" / "trusted" / "notes.txt").write_text("none")
    async with machine.runs():
        assert "notes.txt: is no certificate; PEM or DER" in await refused(table(free_port), tmp_path)
        said = await refused(table(free_port, cert="none.pem", key="none.key"), tmp_path)
    assert "none.pem: cannot be used: No such file or directory" in said
