"""Scopes: what a token may do, and which scope each path of the API asks for. Pure."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, get_args

from skerry.core.errors import RejectedError, suggestion

Scope = Literal["read", "operate", "infer", "uplink", "ingest", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_REACH: dict[Scope, frozenset[Scope]] = {
    "read": frozenset({"read"}),
    "operate": frozenset({"operate", "read"}),
    "infer": frozenset({"infer"}),
    "uplink": frozenset({"uplink"}),
    "ingest": frozenset({"ingest"}),
    "admin": frozenset(SCOPES),
}
# The first row that fits counts; what no row fits needs `admin`. None: no token at all.
_TABLE: tuple[tuple[str, str, Scope | None], ...] = (
    ("GET POST", r"/healthz|/readyz|/auth/.*", None),
    ("POST", r"/v2/repository/index", "infer"),
    ("POST", r"/v2/repository(/.*)?", "operate"),  # load and unload, however the name is escaped
    ("GET POST", r"/v2(/.*)?", "infer"),
    ("GET POST DELETE", r"/api/v1/tokens(/.*)?", "admin"),
    ("GET", r"/api/v1/log", "operate"),  # it may name who is where
    ("GET", r"/api/v1/audit", "admin"),
    ("GET", r"/metrics|/api/v1/.*", "read"),
    ("POST", r"/api/v1/uplink/receive", "uplink"),
    ("POST", r"/api/v1/ingest/[^/]+", "ingest"),
    ("POST", r"/api/v1/uplink/command", "admin"),
    ("POST", r"/api/v1/(pipelines|events|uplink|alarms)/.*", "operate"),
    ("POST", r"/api/v1/cluster/(step-down|members/[^/]+/(drain|resume))", "operate"),
    ("POST DELETE", r"/api/v1/kv/.*", "operate"),
    ("POST", r"/api/v1/models/[^/]+/(activate|rollback|shadow)", "operate"),
)
_ROWS = tuple((frozenset(methods.split()), re.compile(path, re.DOTALL), scope) for methods, path, scope in _TABLE)


@lru_cache(maxsize=1024)
def scope_of(method: str, path: str) -> Scope | None:
    """The scope that a method of a path (or of a route's pattern) asks for; None where it asks for nothing."""
    asked = "GET" if method == "HEAD" else method
    for methods, pattern, scope in _ROWS:
        if asked in methods and pattern.fullmatch(path):
            return scope
    return "admin"


def covers(scopes: Iterable[Scope], wanted: Scope) -> bool:
    """Whether one of the scopes is, or implies, the one that is wanted: `admin` implies all, `operate` implies `read`."""
    return any(wanted in _REACH[own] for own in scopes)


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """Scopes from words. Raises `RejectedError` for another word, and where there is none."""
    found = tuple(_parse(text) for text in dict.fromkeys(texts))
    if not found:
        raise RejectedError("a token needs a scope", where="scopes", mend=f"allowed: {', '.join(SCOPES)}")
    return found


def _parse(text: str) -> Scope:
    for scope in SCOPES:
        if scope == text:
            return scope
    raise RejectedError(f"{text!r} is no scope{suggestion(text, SCOPES)}", where="scopes", mend=f"allowed: {', '.join(SCOPES)}")
