"""Challenges: from being asked for to being spent. Pure: what comes in is the random value and the time.

A challenge is for one device, lives for a while, and is spent by the first attempt, right or wrong. How many are open is bounded;
what is one too many pushes out an older one of its own source, so that one source cannot push out those of another.
"""

import base64
import binascii

import msgspec

BYTES = 32
PREFIX = b"skerry-login-v1\0"
MOST, MOST_A_DEVICE = 65_536, 64


class Pending(msgspec.Struct, frozen=True, gc=False):
    """One challenge that waits for its answer; `expires` is monotonic seconds."""

    device: str
    source: str
    expires: float


class Challenges:
    """What is open.

    Args:
        ttl: seconds that a challenge lives.
        most, most_a_device: bounds of what is open, altogether and for one device.
    """

    def __init__(self, ttl: float, most: int = MOST, most_a_device: int = MOST_A_DEVICE) -> None:
        self._ttl = ttl
        self._most = most
        self._most_a_device = most_a_device
        # all three oldest first, as dicts keep their order
        self._open: dict[bytes, Pending] = {}
        self._of_device: dict[str, dict[bytes, None]] = {}
        self._of_source: dict[str, dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def issue(self, device: str, source: str, value: bytes, now: float) -> None:
        """Open a challenge whose value is random and new."""
        self._end_old(now)
        mine = self._of_device.get(device, {})
        if len(mine) >= self._most_a_device:
            self._drop(next((each for each in mine if self._open[each].source == source), next(iter(mine))))
        if len(self._open) >= self._most:
            self._drop(next(iter(self._of_source.get(source) or self._open)))
        self._open[value] = Pending(device, source, now + self._ttl)
        self._of_device.setdefault(device, {})[value] = None
        self._of_source.setdefault(source, {})[value] = None

    def spend(self, device: str, value: bytes, now: float) -> bool:
        """Whether this device may answer this challenge now; after this nobody may."""
        found = self._open.get(value)
        if found is None:
            return False
        self._drop(value)
        return found.device == device and now < found.expires

    def forget(self, device: str) -> None:
        """End all challenges of a device."""
        for value in list(self._of_device.get(device, ())):
            self._drop(value)

    def _end_old(self, now: float) -> None:
        while self._open:
            value, oldest = next(iter(self._open.items()))
            if now < oldest.expires:
                return
            self._drop(value)

    def _drop(self, value: bytes) -> None:
        gone = self._open.pop(value)
        for index, name in ((self._of_device, gone.device), (self._of_source, gone.source)):
            mine = index[name]
            del mine[value]
            if not mine:
                del index[name]


def signed_message(device: str, challenge: bytes) -> bytes:
    """What a device signs: the prefix keeps the signature from meaning anything elsewhere."""
    return PREFIX + device.encode("utf-8", "surrogatepass") + b"\0" + challenge


def from_base64(text: str, size: int) -> bytes | None:
    """So many bytes of base64 (RFC 4648, 4) in its one spelling, with padding; None for anything else."""
    if len(text) != (size + 2) // 3 * 4:
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) == size and base64.b64encode(data).decode() == text else None
