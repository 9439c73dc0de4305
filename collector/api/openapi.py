"""GET openapi.json: the API described, made from the types that decode and answer. OpenAPI 3.1.

`collector.api.paths` has the operations; what is said of a type here is its docstring and the constraints it checks itself,
so that the description cannot say other than what the program does.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from aiohttp import web

from agent.release import version
from collector import errors
from collector.api import paths
from collector.api.parameters import Parameter
from collector.api.paths import ADMIN, ANYONE, JSON, KEY, Operation
from collector.tenants import caller

_REF = "#/components/schemas/{name}"
_ABOUT = (
    "Takes events from agents and any HTTP client, keeps each exactly once, and lets their owners search them. "
    "An answer to an ingest request names the outcome of every event; 200 means that it is stored. "
    "Send the same event_id again as often as you like: it stays one event. "
    "A query parameter that an operation does not name is refused with 422, as is a value that means nothing. "
    "Every answer to a request whose tenant is known has the X-RateLimit headers, refusals included."
)
_REASONS = {
    400: "The request cannot be read.",
    401: "No credential, or one that is not known (any more).",
    403: "The credential is not for this.",
    404: "It is not there, or is not yours.",
    409: "It exists already, or has ended.",
    413: "Larger than a limit; the message has the number.",
    415: "A content type or encoding that is not taken here.",
    422: "A value is wrong; `errors` names each.",
    429: "A limit of the tenant is reached; `Retry-After` says when to try again.",
    503: "It cannot be served now; `Retry-After` says when to try again.",
}
_CREDENTIALS: dict[str, list[dict[str, list[str]]]] = {
    ANYONE: [],
    KEY: [{"apiKey": []}, {"bearer": []}],
    ADMIN: [{"adminToken": []}],
}
_BUDGET_HEADERS = {
    "X-RateLimit-Limit": "Events per minute.",
    "X-RateLimit-Remaining": "Events that would be admitted now.",
    "X-RateLimit-Reset": "Whole seconds until the whole budget is there again.",
}


async def get_openapi(request: web.Request) -> web.Response:
    caller.anyone(request)
    return web.Response(body=document(), content_type=JSON)


@cache
def document() -> bytes:
    """The description, as JSON."""
    return msgspec.json.encode(described())


def described() -> dict[str, Any]:
    types = {kind: None for op in paths.OPERATIONS for kind in (op.answer, op.body) if kind is not None}
    schemas, components = msgspec.json.schema_components([*types, errors.Envelope], ref_template=_REF)
    refs = dict(zip([*types, errors.Envelope], schemas, strict=True))
    described_paths: dict[str, dict[str, Any]] = {}
    for operation in paths.OPERATIONS:
        described_paths.setdefault(operation.path, {})[operation.method] = _operation(operation, refs)
    return {
        "openapi": "3.1.0",
        "info": {"title": "PulseStream collector", "version": version(), "description": _ABOUT},
        "paths": described_paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "adminToken": {"type": "apiKey", "in": "header", "name": "X-Admin-Token"},
            },
        },
    }


def _operation(operation: Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    needs = f"Needs a key with the scope `{operation.scope}`." if operation.scope else ""
    if operation.credential == ADMIN:
        needs = "Needs the admin token" + (f", or the tenant's own key with the scope `{operation.scope}`." if needs else ".")
    security = _CREDENTIALS[operation.credential]
    if operation.credential == ADMIN and operation.scope:
        security = [*security, *_CREDENTIALS[KEY]]
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": needs,
        "security": security,
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": _responses(operation, refs),
    }
    if operation.body is not None or operation.more_bodies:
        found["requestBody"] = {"required": True, "content": _bodies(operation, refs)}
    return found


def _bodies(operation: Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {media: {"schema": {"type": "string"}} for media in operation.more_bodies}
    if operation.body is not None:
        content = {JSON: {"schema": refs[operation.body], "example": operation.body_example}, **content}
    return content


def _responses(operation: Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {media: {"schema": {"type": "string"}} for media in operation.more_answers}
    content = {operation.answer_type: {"schema": refs.get(operation.answer, {"type": "string"})}, **content}
    found: dict[str, Any] = {str(operation.success): {"description": operation.summary, "content": content}}
    statuses = {422, *operation.refusals, *((401, 403, 503) if operation.credential else ())}
    for status in sorted(statuses):
        if status == 503 and operation.answer is not None and not operation.credential:
            refused = refs[operation.answer]  # health and readiness answer in their own shape
        else:
            refused = refs[errors.Envelope]
        found[str(status)] = {"description": _REASONS[status], "content": {JSON: {"schema": refused}}}
    for status, response in found.items():
        if headers := _budget_headers(operation, int(status)):
            response["headers"] = headers
    return found


def _budget_headers(operation: Operation, status: int) -> dict[str, Any]:
    """They are on every answer whose tenant is known: on none to an unknown key, nor to the admin token."""
    if status == 401 or not (operation.credential == KEY or operation.scope):
        return {}
    always = operation.credential == KEY and status != 503  # 503: the key could not be looked up, perhaps
    return {
        name: {"description": text, "required": always, "schema": {"type": "integer"}} for name, text in _BUDGET_HEADERS.items()
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.text,
        "schema": parameter.schema,
    }
    if parameter.place == "path" or parameter.required:
        found["required"] = True
    if parameter.example is not None:
        found["example"] = parameter.example
    return found
