"""Tokens: made, found, expired, revoked; several stores of one file; nothing of a secret on the disk."""

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.token_file import read_tokens
from skerry.api.tokens import MOST_TOKENS, USED_TO, TokenStore
from skerry.core.clock import SECOND, ManualClock
from skerry.core.errors import ConfigError, CorruptError, RejectedError, SkerryError
from skerry.http import NotFoundError

NOW = 1_764_000_000_000_000
DAY = 86_400 * SECOND


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tokens.json"


@pytest.fixture
def store(file: Path, clock: ManualClock) -> TokenStore:
    return TokenStore(file, clock)


def test_a_token_is_found_by_its_secret_alone(store: TokenStore) -> None:
    row, secret = store.create("ops", ["operate", "infer"], "90d")
    assert re.fullmatch(r"sk_[A-Za-z0-9_-]{43}", secret)  # 256 bits
    assert (row["name"], row["scopes"], row["expired"], row["last_used"]) == ("ops", ["operate", "infer"], False, None)
    found = store.find(secret)
    assert found is not None
    assert (found.name, found.scopes, found.expires) == ("ops", ("operate", "infer"), NOW + 90 * DAY)
    wrong = [secret[:-1], secret + "A", secret.upper(), secret[3:], f" {secret}", found.sha256, "ops", "", "sk_", "sk_" + "\ud800"]
    assert [store.find(each) for each in wrong] == [None] * len(wrong)
    assert store.find("sk_" + "a" * 10_000_000) is None
    assert len({store.create(f"t{number}", ["read"])[1] for number in range(5)}) == 5


@given(st.text())
def test_no_guess_finds_one(guess: str) -> None:
    store = TokenStore(None, ManualClock(NOW))
    store.create("a", ["admin"])
    assert store.find(guess) is None
    assert store.find(f"sk_{guess}") is None


def test_the_disk_holds_no_secret(store: TokenStore, file: Path) -> None:
    _, secret = store.create("ops", ["admin"])
    content = file.read_text()
    assert secret not in content
    assert secret[3:] not in content
    assert hashlib.sha256(secret.encode()).hexdigest() in content
    assert secret not in str(store.rows())
    assert hashlib.sha256(secret.encode()).hexdigest() not in str(store.rows())


def test_a_token_lives_over_restarts_until_it_expires(store: TokenStore, file: Path, clock: ManualClock) -> None:
    _, short = store.create("short", ["read"], "1h")
    _, long = store.create("long", ["read"])
    clock.advance(3_600 * SECOND - 1)
    again = TokenStore(file, clock)
    assert [each.find(secret) is not None for each in (store, again) for secret in (short, long)] == [True] * 4
    clock.advance(1)
    assert [each.find(secret) is not None for each in (store, again) for secret in (short, long)] == [False, True] * 2
    assert [(row["name"], row["expired"]) for row in again.rows()] == [("long", False), ("short", True)]


def test_a_name_is_taken_until_it_is_revoked_or_has_expired(store: TokenStore, clock: ManualClock) -> None:
    _, first = store.create("ops", ["read"], "1d")
    with pytest.raises(RejectedError, match="there is a token 'ops' already; revoke it first"):
        store.create("ops", ["admin"])
    clock.advance(DAY)
    _, second = store.create("ops", ["read"])
    assert (store.find(first), len(store)) == (None, 1)
    store.revoke("ops")
    assert (store.find(second), len(store)) == (None, 0)
    with pytest.raises(NotFoundError, match="there is no token 'ops'; see `skerry token list`"):
        store.revoke("ops")
    store.create("ops", ["read"])
    with pytest.raises(NotFoundError, match="did you mean 'ops'"):
        store.revoke("opps")


@pytest.mark.parametrize(
    ("name", "scopes", "expires", "kind", "said"),
    [
        ("", ["read"], None, RejectedError, "'' will not do as a name"),
        ("a b", ["read"], None, RejectedError, "will not do as a name"),
        ("a", [], None, RejectedError, "a token needs a scope"),
        ("a", ["raed"], None, RejectedError, "'raed' is no scope, did you mean 'read'"),
        ("a", ["read"], "soon", ConfigError, "'soon' is not a duration"),
        ("a", ["read"], "0s", RejectedError, "expires_in: '0s' will not do; 1s to 100y"),
        ("a", ["read"], "101y", RejectedError, "expires_in: '101y' will not do"),
    ],
)
def test_what_will_not_do(
    store: TokenStore, file: Path, name: str, scopes: list[str], expires: str | None, kind: type[SkerryError], said: str
) -> None:
    with pytest.raises(kind, match=re.escape(said)):
        store.create(name, scopes, expires)
    assert not file.exists()


def test_there_are_not_endlessly_many(clock: ManualClock) -> None:
    store = TokenStore(None, clock)
    for number in range(MOST_TOKENS):
        store.create(f"t{number}", ["read"])
    with pytest.raises(RejectedError, match=f"there are {MOST_TOKENS} tokens already; revoke those that nobody uses"):
        store.create("more", ["read"])
    store.revoke("t0")
    store.create("more", ["read"])


def test_the_last_use_is_kept_to_the_hour(store: TokenStore, file: Path, clock: ManualClock) -> None:
    _, secret = store.create("ops", ["read"])
    clock.advance(90 * 60 * SECOND)
    before = file.read_bytes()
    for _ in range(100):
        store.find(secret)
    hour = clock.now() - clock.now() % USED_TO
    assert store.rows()[0]["last_used"] == "2025-11-24T17:00:00.000Z"
    assert file.read_bytes() == before  # a use costs no write
    store.flush()
    assert [token.used for token in read_tokens(file)] == [hour]
    written = file.stat().st_mtime_ns
    store.find(secret)
    store.flush()
    assert file.stat().st_mtime_ns == written
    store.create("other", ["read"])
    assert [token.used for token in read_tokens(file)] == [hour, None]


def test_a_change_by_another_process_counts(store: TokenStore, file: Path, clock: ManualClock) -> None:
    other = TokenStore(file, clock)
    _, first = store.create("first", ["read"])
    _, second = other.create("second", ["read"])
    assert store.find(second) is None
    store.refresh()
    assert store.find(second) is not None
    other.revoke("first")
    assert store.find(first) is not None
    store.refresh()
    assert store.find(first) is None
    store.create("third", ["read"])
    assert [token.name for token in read_tokens(file)] == ["second", "third"]
    file.unlink()
    store.refresh()
    assert (len(store), store.find(second), store.trouble) == (0, None, "")


def test_a_damaged_file_changes_nothing_but_is_said(store: TokenStore, file: Path, clock: ManualClock) -> None:
    _, secret = store.create("ops", ["read"])
    good = file.read_bytes()
    file.write_text("{")
    store.refresh()
    assert store.find(secret) is not None
    assert "holds no tokens as they were written" in store.trouble
    with pytest.raises(CorruptError):
        store.create("more", ["read"])
    assert file.read_text() == "{"
    assert TokenStore(file, clock).find(secret) is None
    file.write_bytes(good)
    store.refresh()
    assert store.trouble == ""


def test_a_file_that_others_may_write_lets_nobody_in(store: TokenStore, file: Path, clock: ManualClock) -> None:
    _, secret = store.create("ops", ["read"])
    file.chmod(0o666)
    fresh = TokenStore(file, clock)
    assert fresh.find(secret) is None
    assert "others may write to it (mode 666); chmod 600" in fresh.trouble


def test_a_disk_that_is_full_costs_the_last_use_alone(store: TokenStore, file: Path) -> None:
    _, secret = store.create("ops", ["read"])
    store.find(secret)
    (file.parent / f".{file.name}.new").mkdir()
    store.flush()
    with pytest.raises(SkerryError, match="cannot be written"):
        store.revoke("ops")
    assert store.find(secret) is not None


def test_without_a_file_they_live_as_long_as_the_process(clock: ManualClock) -> None:
    store = TokenStore(None, clock)
    _, secret = store.create("ops", ["read"])
    store.refresh()
    store.flush()
    assert store.find(secret) is not None
    store.revoke("ops")
    assert store.find(secret) is None
