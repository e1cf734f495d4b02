"""Whether a client gets into the broker: the gate, the device's credential, what it may use; every refusal counted and logged."""

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from skerry.broker import ConnectRequest, Decision, Grant, Refusal
from skerry.core import log
from skerry.core.clock import SECOND, Clock
from skerry.core.errors import RejectedError, SkerryError
from skerry.device.attempts import Attempts
from skerry.device.authenticator import Verdict
from skerry.device.passwords import PasswordChecks
from skerry.device.permissions import for_anonymous, for_device
from skerry.device.registry import BY_CA, Device
from skerry.device.token_login import Audit, Holding
from skerry.trust import certificate_fingerprint, certificate_names

LINES_A_SECOND = 20
MOST_LAST = 16_384
ANONYMOUS = "$anonymous"
"""What the server calls clients without a user name: no device can have this id."""
AT_THE_GATE = frozenset({"gate-closed", "log-full", "disk-full", "anonymous-off", "unavailable", "client-id-taken"})
"""Reasons that say nothing against the credentials. `busy` is not among them: it would tell who has no password to be checked."""
_log = log.get("audit")


class LogIn(msgspec.Struct, frozen=True):
    """When a device last got in (microseconds since the epoch), and from where."""

    at: int
    address: str


class Owners(Protocol):
    """Whose a client id is (`ClientIds`)."""

    async def claim(self, client_id: str, device: str) -> bool: ...


Find = Callable[[str], Awaitable[Device | None]]
FindByCertificate = Callable[[str, Sequence[str]], Awaitable[Device | None]]
CheckToken = Callable[[Device, str], Awaitable[Verdict]]


class BrokerLogin:
    """Decides about connect requests. User name = device id; password = its password, or its token where it has a key.

    A device with a certificate needs neither. Nobody gets in while `open` is False. All refusals look alike to the client: each
    has cost one hash, an unknown device like a wrong password, and who fails often is answered later. `refused` counts by reason:
    `gate-closed`, `log-full`, `disk-full` (or what `refuse_new` was told), `anonymous-off`, `unknown`, `bad-password`, `bad-token`,
    `token-expired`, `bad-certificate`, `revoked`, `busy`, `client-id-taken`, `unavailable`.

    Attributes:
        client_ids: asked about each client id when the credentials are right; None: every one will do.
    """

    def __init__(
        self,
        find: Find,
        clock: Clock,
        *,
        anonymous: bool = False,
        find_by_certificate: FindByCertificate | None = None,
        check_token: CheckToken | None = None,
        holding: Holding | None = None,
        client_ids: Owners | None = None,
        audit: Audit | None = None,
    ) -> None:
        self.open = False
        self.refused: Counter[str] = Counter()
        self.granted = 0
        self.client_ids = client_ids
        self._find_named = find
        self._find_by_certificate = find_by_certificate
        self._clock = clock
        self._anonymous = anonymous
        self._check_token = check_token
        self._holding = holding or Holding(clock, Attempts())
        self._audit = audit
        self._shut_reason = ""
        self._passwords = PasswordChecks(clock)
        self._lines = _Lines(clock)
        self._last: OrderedDict[str, LogIn] = OrderedDict()

    def refuse_new(self, reason: str) -> None:
        """Refuse every client for this reason from now on; an empty reason lets them in again."""
        self._shut_reason = reason

    def last(self, device: str) -> LogIn | None:
        """The last log-in of a device since the node started; None where none is remembered."""
        return self._last.get(device)

    def forget(self, device: str) -> None:
        """A device was removed: one that gets its id later has never been here."""
        self._last.pop(device, None)

    def close(self) -> None:
        """End the threads; what is being checked is refused."""
        self.open = False
        self._passwords.close()

    async def decide(self, request: ConnectRequest) -> Decision:
        """Grant or refuse one client; where the records cannot be read it is a refusal too."""
        began = self._clock.monotonic()
        why = ""
        try:
            decision = self._at_the_gate(request) or await self._decide(request)
        except SkerryError as error:
            decision, why = Refusal("unavailable"), str(error)
        if isinstance(decision, Grant):
            self.granted += 1
            self._remember(decision.name, request.address)
        else:
            self.refused[decision.reason] += 1
        self._note(request, decision, why)
        if isinstance(decision, Refusal) and decision.reason not in AT_THE_GATE and decision.reason != self._shut_reason:
            await self._holding.refuse(request.address, request.username, began)
        return decision

    def _remember(self, device: str, address: str) -> None:
        self._last[device] = LogIn(self._clock.now(), address)
        self._last.move_to_end(device)
        if len(self._last) > MOST_LAST:
            self._last.popitem(last=False)

    def _at_the_gate(self, request: ConnectRequest) -> Decision | None:
        if not self.open:
            return Refusal("gate-closed")
        if self._shut_reason:
            return Refusal(self._shut_reason)
        if request.username or request.certificates or self._anonymous:
            return None
        return Refusal("anonymous-off")

    async def _decide(self, request: ConnectRequest) -> Decision:
        device = await self._find(request)
        if device is None and not request.username and self._anonymous:
            allowed = for_anonymous()
            return await self._claimed(request, Grant(ANONYMOUS, allowed.publish, allowed.subscribe))
        verdict = await self._judge(request, device)
        if verdict.reason:
            return Refusal(verdict.reason)
        assert device is not None
        allowed = for_device(device.id, device.topics)
        expires = verdict.expires * SECOND if verdict.expires else None
        return await self._claimed(request, Grant(device.id, allowed.publish, allowed.subscribe, expires))

    async def _claimed(self, request: ConnectRequest, grant: Grant) -> Decision:
        if self.client_ids is None or await self.client_ids.claim(request.client_id, grant.name):
            return grant
        return Refusal("client-id-taken")

    async def _find(self, request: ConnectRequest) -> Device | None:
        """By its user name; by its certificate where it says none."""
        if request.username:
            return await self._find_named(request.username)
        fingerprint, names = _shown(request)
        if not fingerprint or self._find_by_certificate is None:
            return None
        return await self._find_by_certificate(fingerprint, names)

    async def _judge(self, request: ConnectRequest, device: Device | None) -> Verdict:
        verdict = Verdict("unknown")
        if device is not None and device.kind == "key" and self._check_token is not None:
            verdict = await self._check_token(device, request.password)
        elif device is not None and device.kind == "certificate":
            verdict = _judge_certificate(request, device)
        elif device is not None:
            verdict = Verdict("bad-password")
        if device is not None and not verdict.reason and not device.revoked:
            return verdict
        encoded = device.password if device is not None and device.kind == "password" else ""
        right = await self._passwords.check(request.username, request.password, encoded, request.address)
        if right is None:
            return Verdict("busy")
        if right:
            verdict = Verdict()
        return Verdict("revoked") if device is not None and device.revoked and not verdict.reason else verdict

    def _note(self, request: ConnectRequest, decision: Decision, why: str) -> None:
        reason = decision.reason if isinstance(decision, Refusal) else ""
        name = request.username if isinstance(decision, Refusal) else decision.name
        if self._audit is not None:
            event = "log-in refused" if reason else "log-in"
            self._audit.note(event, by=name[:64], address=request.address, reason=reason, client=request.client_id[:64], why=why)
        left_out = self._lines.take()
        if left_out is None:
            return
        fields: dict[str, object] = {"device": name[:64], "client": request.client_id[:64], "address": request.address}
        if left_out:
            fields["lines_left_out"] = left_out
        if why:
            fields["why"] = why
        if reason:
            _log.warning("log-in refused", reason=reason, **fields)
        else:
            _log.info("log-in", **fields)


def _judge_certificate(request: ConnectRequest, device: Device) -> Verdict:
    """The server has seen the key of what is shown; whether the site's CA has signed it is `verified`."""
    fingerprint, names = _shown(request)
    right = device.id in names if device.certificate == BY_CA else fingerprint == device.certificate
    return Verdict(device=device) if right else Verdict("bad-certificate")


def _shown(request: ConnectRequest) -> tuple[str, tuple[str, ...]]:
    """Fingerprint of the client's own certificate, and the names in it that the site's CA vouches for."""
    if not request.certificates:
        return "", ()
    own = request.certificates[0]
    try:
        return certificate_fingerprint(own), certificate_names(own) if request.verified else ()
    except RejectedError:
        return "", ()


class _Lines:
    """At most `LINES_A_SECOND` lines of the log a second, so that a flood cannot push out what was there before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._written = 0
        self._left_out = 0

    def take(self) -> int | None:
        """None: write nothing; else how many were left out since the last line."""
        second = int(self._clock.monotonic())
        if second != self._second:
            self._second, self._written = second, 0
        if self._written >= LINES_A_SECOND:
            self._left_out += 1
            return None
        self._written += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
