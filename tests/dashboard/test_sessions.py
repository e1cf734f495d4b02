"""Sessions end, are bounded, and log-in cannot be tried without end."""

from skerry.core.clock import ManualClock
from skerry.dashboard.sessions import IDLE_S, LONGEST_S, MOST_ADDRESSES, MOST_SESSIONS, TRIES_AT_ONCE, Sessions

SECOND = 1_000_000


def test_a_session_is_found_by_its_cookie_alone_until_it_ends() -> None:
    sessions = Sessions(ManualClock())
    cookie = sessions.begin("secret")
    found = sessions.find(cookie)
    assert found is not None
    assert (found.token, found.ended) == ("secret", False)
    assert sessions.find("") is sessions.find(cookie[:-1]) is None
    sessions.end(cookie)
    assert sessions.find(cookie) is None
    assert found.ended


def test_it_ends_when_it_is_not_used_and_at_the_latest_after_some_hours() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    idle, used = sessions.begin("a"), sessions.begin("b")
    for _ in range(int(LONGEST_S / IDLE_S * 2) - 1):
        clock.advance(int(IDLE_S / 2 * SECOND) + SECOND)
        sessions.find(used)
    assert sessions.find(idle) is None
    clock.advance(int(IDLE_S / 2 * SECOND))
    assert sessions.find(used) is None
    assert len(sessions) == 0


def test_too_many_sessions_end_the_one_used_longest_ago() -> None:
    sessions = Sessions(ManualClock())
    first, second = sessions.begin("a"), sessions.begin("b")
    sessions.find(first)
    for _ in range(MOST_SESSIONS - 1):
        sessions.begin("c")
    assert len(sessions) == MOST_SESSIONS
    assert sessions.find(second) is None
    assert sessions.find(first) is not None


def test_a_token_that_is_gone_ends_its_sessions_alone() -> None:
    sessions = Sessions(ManualClock())
    one, other = sessions.begin("a"), sessions.begin("b")
    sessions.end_all_of("a")
    assert sessions.find(one) is None
    assert sessions.find(other) is not None


def test_log_in_is_slowed_down_by_address_and_the_addresses_are_bounded() -> None:
    clock = ManualClock()
    sessions = Sessions(clock)
    assert [sessions.wait("10.0.0.1") for _ in range(TRIES_AT_ONCE)] == [0.0] * TRIES_AT_ONCE
    assert sessions.wait("10.0.0.1") > 0
    assert sessions.refused == 1
    assert sessions.wait("10.0.0.2") == 0
    clock.advance(11 * SECOND)
    assert sessions.wait("10.0.0.1") == 0
    for number in range(2 * MOST_ADDRESSES):
        sessions.wait(f"10.1.{number // 256}.{number % 256}")
    assert len(sessions._tries) == MOST_ADDRESSES
