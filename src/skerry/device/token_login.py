"""The log-in by challenge as a service for devices: what is refused is answered late, counted and written down."""

import asyncio
import base64
from collections import Counter
from typing import Protocol

import msgspec

from skerry.core.clock import Clock
from skerry.device.attempts import Attempts
from skerry.device.authenticator import DeviceAuthenticator

MOST_HELD = 128
"""Refusals that are held back at one time; what is over it is answered at once, so that a flood cannot hold connections."""
LEAST_S = 0.002
"""What an answer takes at least that must not tell how long was looked for it: a name that is not there is found sooner."""
LONGEST_NAME = 64


class Audit(Protocol):
    """Where events are written down (`skerry.device.AuditLog`)."""

    def note(self, event: str, *, by: str = "", address: str = "", reason: str = "", **fields: object) -> None: ...


class Holding:
    """Holds refusals back until a moment, a bounded number at one time."""

    def __init__(self, clock: Clock, attempts: Attempts) -> None:
        self._clock = clock
        self._attempts = attempts
        self._held = 0

    async def refuse(self, source: str, device: str, began: float) -> None:
        """Count a failure; come back when its answer is due. `began`: monotonic seconds when the question came."""
        seconds = self._attempts.fail(source, device, self._clock.monotonic())
        if seconds <= LEAST_S or self._held >= MOST_HELD:
            await self.until(began + LEAST_S)
            return
        self._held += 1
        try:
            await self.until(began + seconds)
        finally:
            self._held -= 1

    async def until(self, moment: float) -> None:
        """Come back at a moment (monotonic seconds), or at once where it is over."""
        wait = moment - self._clock.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)


class Challenge(msgspec.Struct, frozen=True):
    """What a device is to sign, in base64, and for how many seconds it may."""

    challenge: str
    expires_in: int | float


class TokenAnswer(msgspec.Struct, frozen=True):
    """The password for MQTT, and for how many seconds."""

    token: str
    expires_in: int


class TokenLogin:
    """Challenges out, signatures in, tokens out. `refused` counts by reason, see `DeviceAuthenticator.judge`."""

    def __init__(self, authenticator: DeviceAuthenticator, clock: Clock, holding: Holding, audit: Audit | None = None) -> None:
        self.refused: Counter[str] = Counter()
        self._authenticator = authenticator
        self._clock = clock
        self._holding = holding
        self._audit = audit

    async def challenge(self, device: str, address: str) -> Challenge:
        """For a device that is not there too. Raises `UnavailableError`."""
        began = self._clock.monotonic()
        value = await self._authenticator.generate_challenge(device, address)
        await self._holding.until(began + LEAST_S)
        seconds = self._authenticator.challenge_s
        return Challenge(base64.b64encode(value).decode(), int(seconds) if seconds.is_integer() else seconds)

    async def token(self, device: str, challenge: str, signature: str, address: str) -> TokenAnswer | None:
        """A token, or None; the reason of that is for the audit log alone. Raises `UnavailableError`."""
        began = self._clock.monotonic()
        verdict = await self._authenticator.judge(device, challenge, signature)
        if verdict.device is not None:
            token = await self._authenticator.issue_token(verdict.device)
            if self._audit is not None:
                self._audit.note("log-in by key", by=device, address=address)
            return TokenAnswer(token, self._authenticator.token_s)
        self.refused[verdict.reason] += 1
        if self._audit is not None:
            self._audit.note("log-in refused", by=device[:LONGEST_NAME], address=address, reason=verdict.reason)
        await self._holding.refuse(address, device, began)
        return None
