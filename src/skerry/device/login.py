"""Whether a client gets into the broker: the gate, the device's password, what it may use; every refusal counted and logged."""

import asyncio
import hashlib
import hmac
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from skerry.broker import ConnectRequest, Decision, Grant, Refusal
from skerry.core import log
from skerry.core.clock import Clock
from skerry.core.errors import SkerryError
from skerry.device.permissions import for_anonymous, for_device
from skerry.device.registry import Device
from skerry.trust import hash_password, new_password, verify_password

HASH_THREADS = 2
MOST_WAITING = 24
"""Password checks waiting or under way: at 50 to 100 ms each on two threads the last is answered before the server gives up."""
MOST_REMEMBERED = 16_384
WRONG_REMEMBERED = 1_024
WRONG_FOR_S = 30.0
LINES_A_SECOND = 20
ANONYMOUS = "$anonymous"
"""What the server calls clients without a user name: no device can have this id."""
Find = Callable[[str], Awaitable[Device | None]]
_log = log.get("audit")


class BrokerLogin:
    """Decides about connect requests. User name = device id, password = its password.

    Nobody gets in while `open` is False. An unknown device costs the same hash as a wrong password, and all refusals look
    alike to the client. Passwords once verified are remembered as an HMAC under a key of this process, so that a storm of
    reconnects costs no hashes. `refused` counts by reason: `gate-closed`, `log-full` (or what `refuse_new` was told),
    `anonymous-off`, `unknown`, `bad-password`, `revoked`, `busy`, `unavailable`.
    """

    def __init__(self, find: Find, clock: Clock, *, anonymous: bool = False) -> None:
        self.open = False
        self.refused: Counter[str] = Counter()
        self.granted = 0
        self._find = find
        self._clock = clock
        self._anonymous = anonymous
        self._shut_reason = ""
        self._hashing = 0
        self._threads = ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="password")
        self._seen = _Seen(clock)
        self._lines = _Lines(clock)
        self._nobody = ""

    def refuse_new(self, reason: str) -> None:
        """Refuse every client for this reason from now on; an empty reason lets them in again."""
        self._shut_reason = reason

    def close(self) -> None:
        """End the threads; what is being checked is refused."""
        self.open = False
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def decide(self, request: ConnectRequest) -> Decision:
        """Grant or refuse one client; where the records cannot be read it is a refusal too."""
        why = ""
        try:
            decision = self._at_the_gate(request) or await self._decide(request)
        except SkerryError as error:
            decision, why = Refusal("unavailable"), str(error)
        if isinstance(decision, Grant):
            self.granted += 1
        else:
            self.refused[decision.reason] += 1
        self._note(request, decision, why)
        return decision

    def _at_the_gate(self, request: ConnectRequest) -> Decision | None:
        if not self.open:
            return Refusal("gate-closed")
        if self._shut_reason:
            return Refusal(self._shut_reason)
        if request.username:
            return None
        if not self._anonymous:
            return Refusal("anonymous-off")
        allowed = for_anonymous()
        return Grant(ANONYMOUS, allowed.publish, allowed.subscribe)

    async def _decide(self, request: ConnectRequest) -> Decision:
        device = await self._find(request.username)
        known = await self._is_password(request.username, request.password, device)
        if known is None:
            return Refusal("busy")
        if device is None:
            return Refusal("unknown")
        if not known:
            return Refusal("bad-password")
        if device.revoked:
            return Refusal("revoked")
        allowed = for_device(device.id, device.topics)
        return Grant(device.id, allowed.publish, allowed.subscribe)

    async def _is_password(self, name: str, password: str, device: Device | None) -> bool | None:
        """None when too many are being checked already."""
        encoded = device.password if device else ""
        mark = self._seen.mark(name, password, encoded)
        if (remembered := self._seen.verdict(name, mark)) is not None:
            return remembered
        if self._hashing >= MOST_WAITING:
            return None
        self._hashing += 1
        try:
            right = await asyncio.get_running_loop().run_in_executor(self._threads, self._check, password, encoded)
        finally:
            self._hashing -= 1
        self._seen.note(name, mark, right)
        return right

    def _check(self, password: str, encoded: str) -> bool:
        if encoded:
            return verify_password(password, encoded)
        # A device that is not there is checked against the hash of a password that nobody knows.
        self._nobody = self._nobody or hash_password(new_password())
        verify_password(password, self._nobody)
        return False

    def _note(self, request: ConnectRequest, decision: Decision, why: str) -> None:
        left_out = self._lines.take()
        if left_out is None:
            return
        fields: dict[str, object] = {
            "device": request.username[:64], "client": request.client_id[:64], "address": request.address,
        }  # fmt: skip
        if left_out:
            fields["lines_left_out"] = left_out
        if why:
            fields["why"] = why
        if isinstance(decision, Grant):
            _log.info("log-in", **fields)
        else:
            _log.warning("log-in refused", reason=decision.reason, **fields)


class _Seen:
    """Passwords that were checked before: right ones until the record changes, wrong ones for half a minute. Bounded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[str, bytes] = OrderedDict()
        self._wrong: OrderedDict[bytes, float] = OrderedDict()

    def mark(self, name: str, password: str, encoded: str) -> bytes:
        """Stands for name, password and stored hash, and for nothing else; worthless outside this process."""
        return hmac.digest(self._key, msgspec.msgpack.encode([_utf8(name), _utf8(password), encoded]), hashlib.sha256)

    def verdict(self, name: str, mark: bytes) -> bool | None:
        """What a check would say, or None where it must be made."""
        right = self._right.get(name)
        if right is not None and hmac.compare_digest(right, mark):
            self._right.move_to_end(name)
            return True
        until = self._wrong.get(mark)
        return False if until is not None and self._clock.monotonic() < until else None

    def note(self, name: str, mark: bytes, right: bool) -> None:
        """Remember the outcome of a check."""
        if right:
            self._right[name] = mark
            self._right.move_to_end(name)
            if len(self._right) > MOST_REMEMBERED:
                self._right.popitem(last=False)
            return
        self._wrong[mark] = self._clock.monotonic() + WRONG_FOR_S
        self._wrong.move_to_end(mark)
        if len(self._wrong) > WRONG_REMEMBERED:
            self._wrong.popitem(last=False)


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


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
