"""Who has logged in: sessions by a random cookie, bounded in number and time, and how often log-in may be tried."""

import secrets
from collections import OrderedDict

import msgspec

from skerry.core.clock import Clock
from skerry.runtime import TokenBucket

COOKIE = "skerry_session"
MOST_SESSIONS, IDLE_S, LONGEST_S = 64, 3600.0, 12 * 3600.0
TRIES_AT_ONCE, TRIES_A_MINUTE, MOST_ADDRESSES = 8, 6, 1024


class Session(msgspec.Struct):
    """One browser that has logged in. `token` empty: nobody has to on this machine."""

    token: str
    began: float = 0.0
    seen: float = 0.0
    ended: bool = False


class Sessions:
    """All sessions of one dashboard, in memory alone. `refused` counts log-ins that failed or were held up."""

    def __init__(self, clock: Clock) -> None:
        self.refused = 0
        self._clock = clock
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._tries: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, token: str) -> str:
        """The cookie of a new session; where there are too many, the one that was used longest ago ends."""
        while len(self._open) >= MOST_SESSIONS:
            _, oldest = self._open.popitem(last=False)
            oldest.ended = True
        cookie, now = secrets.token_urlsafe(32), self._clock.monotonic()
        self._open[cookie] = Session(token, now, now)
        return cookie

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie, while it lasts."""
        session, now = self._open.get(cookie), self._clock.monotonic()
        if session is None:
            return None
        if now - session.seen > IDLE_S or now - session.began > LONGEST_S:
            self.end(cookie)
            return None
        session.seen = now
        self._open.move_to_end(cookie)
        return session

    def end(self, cookie: str) -> None:
        """Log out."""
        session = self._open.pop(cookie, None)
        if session is not None:
            session.ended = True

    def end_all_of(self, token: str) -> None:
        """The token was revoked or has expired."""
        for cookie in [cookie for cookie, session in self._open.items() if session.token == token]:
            self.end(cookie)

    def wait(self, address: str) -> float:
        """Seconds until this address may try to log in; 0: now, and then it is counted."""
        now = self._clock.monotonic()
        bucket = self._tries.pop(address, None) or TokenBucket(TRIES_A_MINUTE / 60, TRIES_AT_ONCE, now)
        self._tries[address] = bucket
        if len(self._tries) > MOST_ADDRESSES:
            self._tries.popitem(last=False)
        seconds = bucket.wait(1, now)
        if seconds:
            self.refused += 1
        else:
            bucket.spend(1, now)
        return seconds
