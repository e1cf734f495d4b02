"""The table of what the API answers: one row an endpoint, which routes and OpenAPI are both made from."""

from collections.abc import Callable
from typing import Any

import msgspec

from skerry.api.scopes import scope_of
from skerry.http import Handler, Request, Response, Route

API = "/api/v1"
Noted = Callable[[Request, Response], dict[str, object]]


class Parameter(msgspec.Struct, frozen=True):
    """A query parameter."""

    name: str
    description: str
    kind: str = "string"


class Endpoint(msgspec.Struct, frozen=True):
    """One method of one path.

    Attributes:
        answer: content type of a good answer.
        body: JSON Schema of the request's body.
        max_body: bytes of a body; 0: the server's own limit.
        event: what a change by it is called in the audit log; without one it is noted as method and path.
        noted: what else is noted of it there, from request and answer; `reason` among it is the line's own.
    """

    method: str
    pattern: str
    handler: Handler
    summary: str
    query: tuple[Parameter, ...] = ()
    answer: str = "application/json"
    status: int = 200
    body: dict[str, Any] = {}
    max_body: int = 0
    event: str = ""
    noted: Noted | None = None

    @property
    def route(self) -> Route:
        """What the server needs of it."""
        return Route(self.method, self.pattern, self.handler, max_body=self.max_body)


_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "where": {"type": "string"},
        "mend": {"type": "string"},
    },
}


def openapi(endpoints: list[Endpoint], version: str) -> dict[str, Any]:
    """An OpenAPI 3.1 document of the endpoints."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.pattern, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "skerry", "version": version, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "`skerry token create` makes one"}},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    named = [part[1:-1] for part in endpoint.pattern.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in named
    ]
    parameters += [
        {"name": each.name, "in": "query", "description": each.description, "schema": {"type": each.kind}}
        for each in endpoint.query
    ]
    scope = scope_of(endpoint.method, endpoint.pattern)
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "parameters": parameters,
        # OpenAPI 3.1 names roles here for schemes that are not OAuth
        "security": [] if scope is None else [{"token": [scope]}],
        "responses": {
            str(endpoint.status): {"description": "done", "content": {endpoint.answer: {}}},
            "default": {
                "description": "it did not work",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            },
        },
    }
    if endpoint.body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": endpoint.body}}}
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    words = endpoint.pattern.removeprefix(API).replace("{", "").replace("}", "").replace(".", "/").split("/")
    return "_".join([endpoint.method.lower(), *[word for word in words if word]])
