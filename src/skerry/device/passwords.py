"""Checking passwords at the door: a bounded number at one time, in threads, and none twice within a while."""

import asyncio
import contextlib
import hashlib
import hmac
import os
import secrets
import sys
import threading
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec

from skerry.core.clock import Clock
from skerry.device.attempts import network
from skerry.trust import hash_password, new_password, verify_password

HASH_THREADS, NICE = 2, 5
MOST_WAITING = 24
"""Checks waiting or under way: at 50 to 100 ms each on two threads the last is answered before the server gives up."""
MOST_UNKNOWN, MOST_A_SOURCE, MOST_A_NAME = 6, 12, 6
"""Of these: for names without a password, for known ones of one source, for one name of one source. A flood of both leaves room."""
MOST_REMEMBERED = 16_384
WRONG_REMEMBERED = 1_024
WRONG_FOR_S = 30.0


class _Check:
    """One that waits for a thread, or has one; `answer` outlives who asked."""

    __slots__ = ("answer", "encoded", "keys", "mark", "name", "password", "source")

    def __init__(self, name: str, password: str, encoded: str, mark: bytes, source: str) -> None:
        self.name = name
        self.password = password
        self.encoded = encoded
        self.mark = mark
        self.source = source
        self.keys: list[tuple[str, ...]] = []
        self.answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class PasswordChecks:
    """Is this the password? A name that has none costs the same hash as a wrong password.

    Passwords once verified are remembered as an HMAC under a key of this process, so that a storm of reconnects costs no hashes.
    Of those that wait, one of the source with the fewest comes next, so that who asks seldom does not wait for a flood.
    """

    def __init__(self, clock: Clock) -> None:
        self._threads = ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="password", initializer=_give_way)
        self._seen = _Seen(clock)
        self._at_work: Counter[tuple[str, ...]] = Counter()
        self._of_source: Counter[str] = Counter()
        self._waiting: list[_Check] = []
        self._running = 0
        self._nobody = ""

    def close(self) -> None:
        """End the threads; what is being checked is given up."""
        for check in self._waiting:
            check.answer.cancel()
        self._waiting.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def check(self, name: str, password: str, encoded: str, source: str = "") -> bool | None:
        """None when too many are being checked already.

        Args:
            encoded: the stored hash, empty where there is none: always wrong.
            source: the address that asks.
        """
        mark = self._seen.mark(name, password, encoded)
        if (remembered := self._seen.verdict(name, mark)) is not None:
            return remembered
        where = network(source)
        counts = ((("known", where), MOST_A_SOURCE) if encoded else (("unknown",), MOST_UNKNOWN), ((name, where, ""), MOST_A_NAME))
        if self._all >= MOST_WAITING or any(self._at_work[key] >= most for key, most in counts):
            return None
        check = _Check(name, password, encoded, mark, where)
        check.keys = [key for key, _ in counts]
        self._at_work.update(check.keys)
        self._of_source[where] += 1
        self._waiting.append(check)
        self._begin()
        # who waits may be given up on, as in a flood: the answer is noted all the same, and is there when it asks again
        return await asyncio.shield(check.answer)

    @property
    def _all(self) -> int:
        return self._running + len(self._waiting)

    def _begin(self) -> None:
        while self._waiting and self._running < HASH_THREADS:
            check = min(self._waiting, key=lambda each: self._of_source[each.source])
            self._waiting.remove(check)
            self._running += 1
            work = asyncio.get_running_loop().run_in_executor(self._threads, self._hash, check.password, check.encoded)
            work.add_done_callback(partial(self._is_done, check))

    def _is_done(self, check: _Check, work: "asyncio.Future[bool]") -> None:
        self._running -= 1
        self._at_work.subtract(check.keys)
        self._at_work = +self._at_work
        self._of_source[check.source] -= 1
        if not self._of_source[check.source]:
            del self._of_source[check.source]
        if work.cancelled():
            check.answer.cancel()
        elif (error := work.exception()) is not None:
            check.answer.set_exception(error)
            check.answer.exception()  # who asked may be gone
        else:
            self._seen.note(check.name, check.mark, work.result())
            check.answer.set_result(work.result())
        self._begin()

    def _hash(self, password: str, encoded: str) -> bool:
        if encoded:
            return verify_password(password, encoded)
        # A device that is not there is checked against the hash of a password that nobody knows.
        self._nobody = self._nobody or hash_password(new_password())
        verify_password(password, self._nobody)
        return False


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


def _give_way() -> None:
    """A flood of passwords takes what the others leave: log-ins that need no hash, and the pipelines, come first."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
