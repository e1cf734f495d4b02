"""Which scope a path asks for, and which scope implies which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.api.endpoints import API
from skerry.api.handlers import Handlers
from skerry.api.scopes import SCOPES, Scope, covers, parse_scopes, scope_of
from skerry.core.errors import RejectedError
from tests.api.fake_view import FakeView

# What each endpoint is meant to ask for. A new endpoint must be added here: what nobody decided about needs `admin`.
OPEN = {"GET /healthz", "GET /readyz", "POST /auth/challenge", "POST /auth/token"}
OPERATE = {
    f"POST {API}/pipelines/{{name}}/pause",
    f"POST {API}/pipelines/{{name}}/resume",
    f"POST {API}/pipelines/{{name}}/trace",
    f"POST {API}/pipelines/{{name}}/deadletters/retry",
    f"POST {API}/pipelines/{{name}}/deadletters/drop",
    f"POST {API}/models/{{name}}/activate",
    f"POST {API}/models/{{name}}/rollback",
    f"POST {API}/models/{{name}}/shadow",
    f"POST {API}/kv/{{key}}",
    f"DELETE {API}/kv/{{key}}",
    f"POST {API}/uplink/pause",
    f"POST {API}/uplink/resume",
    f"POST {API}/uplink/test",
    f"POST {API}/alarms/{{id}}/acknowledge",
    f"POST {API}/alarms/{{id}}/shelve",
    f"POST {API}/alarms/{{id}}/unshelve",
    f"POST {API}/alarms/{{id}}/comment",
    f"POST {API}/cluster/step-down",
    f"POST {API}/cluster/members/{{id}}/drain",
    f"POST {API}/cluster/members/{{id}}/resume",
    f"GET {API}/log",
}
UPLINK = {f"POST {API}/uplink/receive"}
INGEST = {f"POST {API}/ingest/{{name}}"}
ADMIN = {
    f"POST {API}/uplink/command",
    f"POST {API}/cluster/tokens",
    f"POST {API}/cluster/promote",
    f"POST {API}/cluster/approve",
    f"DELETE {API}/cluster/members/{{id}}",
    f"GET {API}/audit",
    f"GET {API}/tokens",
    f"POST {API}/tokens",
    f"DELETE {API}/tokens/{{name}}",
    f"POST {API}/models",
    f"POST {API}/models/{{name}}/upload",
    f"DELETE {API}/models/{{name}}/versions/{{version}}",
    f"POST {API}/devices",
    f"DELETE {API}/devices/{{id}}",
    f"POST {API}/devices/{{id}}/rotate",
    f"POST {API}/devices/{{id}}/revoke",
    f"POST {API}/config/reload",
    f"POST {API}/backup",
    f"DELETE {API}/backup",
    f"POST {API}/bundles",
    f"POST {API}/bundles/{{id}}/apply",
    f"POST {API}/bundles/rollback",
}


def meant(method: str, pattern: str) -> Scope | None:
    named = f"{method} {pattern}"
    if named in OPEN:
        return None
    if named in OPERATE:
        return "operate"
    if named in UPLINK:
        return "uplink"
    if named in INGEST:
        return "ingest"
    if named in ADMIN:
        return "admin"
    assert method == "GET", f"{named} is in none of the lists above"
    return "read"


def test_every_endpoint_asks_for_what_was_meant() -> None:
    endpoints = Handlers(FakeView(), "0").endpoints()
    assert len(endpoints) > 25
    found = {f"{each.method} {each.pattern}": scope_of(each.method, each.pattern) for each in endpoints}
    assert found == {f"{each.method} {each.pattern}": meant(each.method, each.pattern) for each in endpoints}
    assert {name for name in OPERATE | ADMIN | UPLINK | INGEST if name not in found} == set()


def test_every_change_has_a_name_in_the_audit_log() -> None:
    for each in Handlers(FakeView(), "0").endpoints():
        scope = scope_of(each.method, each.pattern)
        assert bool(each.event) is (each.method != "GET" and scope not in (None, "uplink", "ingest")), each.pattern


def test_every_path_of_inference_asks_for_infer() -> None:
    for route in Handlers(FakeView(), "0").inference_routes():
        assert scope_of(route.method, route.pattern.replace("{rest:.*}", "models/x/infer")) == "infer"


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v2", "infer"),
        ("GET", "/v2/health/ready", "infer"),
        ("POST", "/v2/models/x/versions/1/infer", "infer"),
        ("POST", "/v2/repository/index", "infer"),
        ("POST", "/v2/repository/models/x/load", "operate"),
        ("POST", "/v2/repository/models/x/unload", "operate"),
        ("POST", "/v2/repository/models/a/b/unload", "operate"),
        ("POST", "/v2/repository/models/a\nb/unload", "operate"),
        ("POST", "/v2/repository", "operate"),
        ("HEAD", "/metrics", "read"),
        ("HEAD", "/api/v1/tokens", "admin"),
        ("HEAD", "/healthz", None),
        ("GET", "/healthz/x", "admin"),
        ("GET", "/healthz/../api/v1/tokens", "admin"),
        ("DELETE", "/auth/challenge", "admin"),
        ("PUT", "/api/v1/pipelines/x", "admin"),
        ("POST", "/api/v1/kv/x", "operate"),
        ("GET", "/api/v2/node", "admin"),
        ("GET", "/v20", "admin"),
        ("POST", "/api/v1/models/a/b/activate", "admin"),
        ("POST", "/api/v1/uplink/receive", "uplink"),
        ("POST", "/api/v1/uplink/receive/x", "operate"),
        ("GET", "/api/v1/uplink", "read"),
        ("OPTIONS", "/v2/models/x/infer", "admin"),
    ],
)
def test_paths(method: str, path: str, scope: Scope | None) -> None:
    assert scope_of(method, path) == scope


@given(st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", ""]), st.text())
def test_what_nobody_thought_of_needs_admin(method: str, path: str) -> None:
    assert scope_of(method, f"/x{path}") == "admin"


@pytest.mark.parametrize(
    ("held", "reach"),
    [
        (["read"], {"read"}),
        (["operate"], {"read", "operate"}),
        (["infer"], {"infer"}),
        (["uplink"], {"uplink"}),
        (["admin"], {"read", "operate", "infer", "uplink", "ingest", "admin"}),
        (["ingest"], {"ingest"}),
        (["read", "infer"], {"read", "infer"}),
        ([], set()),
    ],
)
def test_what_implies_what(held: list[Scope], reach: set[Scope]) -> None:
    assert {scope for scope in SCOPES if covers(held, scope)} == reach


def test_words() -> None:
    assert parse_scopes(["infer", "read", "infer"]) == ("infer", "read")
    with pytest.raises(RejectedError, match="'opperate' is no scope, did you mean 'operate'"):
        parse_scopes(["read", "opperate"])
    with pytest.raises(RejectedError, match="a token needs a scope; allowed: read, operate, infer, uplink, ingest, admin"):
        parse_scopes([])
