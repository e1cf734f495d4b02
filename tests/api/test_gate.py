"""The gate: who is let in, who is counted, what is noted. Floods are bounded, and a right token is never locked out."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from skerry.api import ApiConfig, TokenStore
from skerry.api.gate import REFUSED, WRONG_AT_ONCE, Gate
from skerry.api.scopes import scope_of
from skerry.core.clock import SECOND, ManualClock
from skerry.core.errors import SkerryError
from skerry.http import RefusedError, Request, Response, Stream, TooManyRequestsError, UnauthorizedError
from tests.api.noted import Noted

NOW = 1_764_000_000_000_000
STRANGER = "203.0.113.9"


class Rig:
    """A gate of a node that others reach, and what belongs to it."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock(NOW)
        self.noted = Noted()
        self.tokens = TokenStore(None, self.clock)
        given = {"listen": "0.0.0.0:8080", "token_file": "t", **config}
        self.gate = Gate(ApiConfig(**given), self.tokens, self.clock, self.noted, ["edge.example"])

    def ask(
        self, method: str = "GET", path: str = "/api/v1/node", remote: str = STRANGER, token: str = "", host: str = "192.0.2.1:8080"
    ) -> Request:
        headers = {"host": host, **({"authorization": f"Bearer {token}"} if token else {})}
        return self.gate.admit(Request(method, path, headers=headers, remote=remote), scope_of(method, path))

    def refusal(self, *given: str, **more: str) -> SkerryError | None:
        try:
            self.ask(*given, **more)
        except SkerryError as error:
            return error
        return None


def test_who_asks_is_named() -> None:
    rig = Rig(loopback="read")
    _, secret = rig.tokens.create("ops", ["read"])
    assert rig.ask(token=secret).by == "token:ops"
    assert rig.ask(remote="127.0.0.1", host="localhost").by == "loopback"
    over_socket = Request("POST", "/api/v1/tokens", by="unix:1000")
    assert rig.gate.admit(over_socket, "admin") is over_socket
    assert rig.noted.lines == []


def test_refusals_are_counted_by_reason_and_noted_without_secrets() -> None:
    rig = Rig()
    _, secret = rig.tokens.create("ops", ["read"])
    assert isinstance(rig.refusal(), UnauthorizedError)
    assert isinstance(rig.refusal(token="sk_guess"), UnauthorizedError)
    assert isinstance(rig.refusal("POST", "/api/v1/config/reload", token=secret), RefusedError)
    assert isinstance(rig.refusal(host="evil.example"), RefusedError)
    assert rig.gate.refused == {"no-token": 1, "wrong-token": 1, "scope": 1, "other-site": 1}
    assert set(rig.gate.refused) < set(REFUSED)
    assert [(line["reason"], line.get("by"), line["address"]) for line in rig.noted.lines] == [
        ("no-token", None, STRANGER),
        ("wrong-token", None, STRANGER),
        ("scope", "token:ops", STRANGER),
        ("other-site", None, STRANGER),
    ]
    assert {line["event"] for line in rig.noted.lines} == {"api request refused"}
    assert "sk_" not in str(rig.noted.lines)


def test_a_wrong_token_is_no_matter_where_none_is_needed() -> None:
    rig = Rig()
    for path in ("/healthz", "/readyz"):
        assert rig.ask(path=path, token="sk_of-another-node").by == "loopback"


def test_wrong_tokens_slow_down_and_never_lock_out_a_right_one() -> None:
    rig = Rig()
    _, secret = rig.tokens.create("ops", ["read"])
    kinds = [type(rig.refusal(token=f"sk_{number}")) for number in range(WRONG_AT_ONCE + 100)]
    assert kinds == [UnauthorizedError] * WRONG_AT_ONCE + [TooManyRequestsError] * 100
    error = rig.refusal(token="sk_more")
    assert isinstance(error, TooManyRequestsError)
    assert 0 < error.wait <= 3
    assert rig.ask(token=secret).by == "token:ops"  # from the same address
    assert isinstance(rig.refusal(token="sk_x", remote="203.0.113.10"), UnauthorizedError)  # another one is not held up
    rig.clock.advance(3 * SECOND)
    assert isinstance(rig.refusal(token="sk_x"), UnauthorizedError)
    assert isinstance(rig.refusal(token="sk_x"), TooManyRequestsError)


def test_requests_are_counted_by_token_or_address() -> None:
    rig = Rig(rate="10/s")
    _, first = rig.tokens.create("first", ["read"])
    _, second = rig.tokens.create("second", ["read"])
    assert [rig.refusal(token=first) for _ in range(20)] == [None] * 20
    error = rig.refusal(token=first)
    assert isinstance(error, TooManyRequestsError)
    assert error.wait == pytest.approx(0.1)
    assert rig.refusal(token=second) is None
    assert rig.refusal(path="/healthz") is None
    rig.clock.advance(SECOND // 10)
    assert rig.refusal(token=first) is None
    assert rig.gate.refused == {"rate": 1}


def test_a_flood_without_a_token_holds_up_nobody_who_has_one() -> None:
    rig = Rig(rate="10/s")
    _, secret = rig.tokens.create("ops", ["read"])
    kinds = [type(rig.refusal()) for _ in range(200)]
    assert kinds == [UnauthorizedError] * 20 + [TooManyRequestsError] * 180
    assert rig.refusal(token=secret) is None


def test_inference_that_is_let_in_has_limits_of_its_own() -> None:
    rig = Rig(rate="10/s")
    _, secret = rig.tokens.create("robot", ["infer"])
    assert [rig.refusal("POST", "/v2/models/m/infer", token=secret) for _ in range(500)] == [None] * 500
    kinds = [type(rig.refusal("POST", "/v2/models/m/infer")) for _ in range(25)]
    assert kinds == [UnauthorizedError] * 20 + [TooManyRequestsError] * 5


def test_log_ins_have_limits_of_their_own() -> None:
    rig = Rig(rate="1/m")
    assert [rig.refusal("POST", "/auth/challenge") for _ in range(500)] == [None] * 500
    kinds = [type(rig.refusal("POST", "/auth/token", host="evil.example")) for _ in range(15)]
    assert kinds == [RefusedError] * 10 + [TooManyRequestsError] * 5


def test_the_unix_socket_is_not_counted() -> None:
    rig = Rig(rate="1/s")
    for _ in range(100):
        rig.gate.admit(Request("POST", "/api/v1/config/reload", by="unix:0"), "admin")


def test_changes_are_noted_with_who_and_from_where() -> None:
    rig = Rig()
    by = Request("POST", "/api/v1/devices", body=b'{"id": "pump-1", "password": "hunter22"}', remote=STRANGER, by="token:ops")
    rig.gate.note(by, "device added", Response(201))
    rig.gate.note(Request("DELETE", "/api/v1/devices/b", {"id": "b"}, by="unix:0"), "device removed", Response())
    rig.gate.note(Request("POST", "/api/v1/config/reload", by="unix:0"), "", Response())
    rig.gate.note(Request("POST", "/x", body=b"\xff", by="unix:0"), "", Response())
    assert rig.noted.lines == [
        {"event": "device added", "by": "token:ops", "address": STRANGER, "id": "pump-1"},
        {"event": "device removed", "by": "unix:0", "id": "b"},
        {"event": "api change", "by": "unix:0", "method": "POST", "path": "/api/v1/config/reload"},
        {"event": "api change", "by": "unix:0", "method": "POST", "path": "/x"},
    ]


def test_what_only_reads_or_failed_is_no_change() -> None:
    rig = Rig()
    rig.gate.note(Request("GET", "/api/v1/node", by="unix:0"), "", Response())
    rig.gate.note(Request("HEAD", "/api/v1/node", by="unix:0"), "", Response())
    rig.gate.note(Request("POST", "/api/v1/devices", by="unix:0"), "device added", Response(400))
    assert rig.noted.lines == []


@pytest.mark.parametrize(
    ("host", "may"),
    [("edge.example", True), ("BOX.example:8080", True), ("127.0.0.1", True), ("other.example", False), ("0.0.0.0", True)],
)
def test_the_names_of_the_node(host: str, may: bool) -> None:
    rig = Rig(hosts=("box.example",))
    error = rig.refusal(path="/healthz", host=host)
    assert (error is None) is may


def test_names_of_the_machine_mean_nothing_on_loopback() -> None:
    rig = Rig(listen="127.0.0.1:0", loopback="all", hosts=("tunnel.example",))
    assert rig.refusal(path="/healthz", host="tunnel.example", remote="127.0.0.1") is None
    for host in ("edge.example", "192.168.1.5"):
        assert isinstance(rig.refusal(path="/healthz", host=host, remote="127.0.0.1"), RefusedError)


class Endless:
    """Chunks that come when they are asked for once, and then not any more."""

    def __init__(self) -> None:
        self.closed = False

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            self.closed = True


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_stream_ends_with_its_token(end: str) -> None:
    rig, source = Rig(), Endless()
    _, secret = rig.tokens.create("ops", ["operate"], "1h")
    request = Request("GET", "/api/v1/events/stream", headers={"authorization": f"Bearer {secret}"}, remote=STRANGER)
    stream = rig.gate.while_good(request, "read", Stream(source.chunks(), {"a": "b"}))
    assert stream.headers == {"a": "b"}
    assert await anext(stream.chunks) == b"first"
    following = asyncio.ensure_future(anext(stream.chunks))
    await asyncio.sleep(0.01)
    if end == "revoked":
        rig.tokens.revoke("ops")
    else:
        rig.clock.advance(3_600 * SECOND)
    last = await asyncio.wait_for(following, 3)
    assert last.startswith(b"event: error\ndata: ")
    assert b"the token was revoked, or has expired" in last
    with pytest.raises(StopAsyncIteration):
        await anext(stream.chunks)
    assert source.closed


@pytest.mark.asyncio
async def test_streams_that_no_token_opened_are_left_alone() -> None:
    rig, source = Rig(), Endless()
    plain = Stream(source.chunks())
    assert rig.gate.while_good(Request("GET", "/x", remote="127.0.0.1"), "read", plain) is plain
    assert rig.gate.while_good(Request("GET", "/x", headers={"authorization": "Bearer sk_x"}), "read", plain) is plain


@pytest.mark.asyncio
async def test_a_stream_that_ends_by_itself_ends() -> None:
    rig = Rig()
    _, secret = rig.tokens.create("ops", ["read"])

    async def two() -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"

    request = Request("GET", "/x", headers={"authorization": f"Bearer {secret}"}, remote=STRANGER)
    assert [chunk async for chunk in rig.gate.while_good(request, "read", Stream(two())).chunks] == [b"1", b"2"]
