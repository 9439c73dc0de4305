"""Shapes that are put together or taken apart as plain values: tenants, keys, batches. For the API's description only."""

from __future__ import annotations

from typing import Any

import msgspec

from collector.config import Limits
from collector.ingest.event_types import ApiEvent


class TenantShown(msgspec.Struct, frozen=True):
    tenant_id: str
    slug: str
    name: str
    contact_email: str
    limits: Limits
    disabled: bool
    created: str | None
    origin: str
    """``api``, or ``file`` for a tenant of the tenants file."""


class KeyShown(msgspec.Struct, frozen=True):
    key_id: str
    name: str
    scopes: list[str]
    created: str | None
    expires: str | None
    revoked: bool
    last_used: str | None
    """Roughly."""


class TenantAnswer(msgspec.Struct, frozen=True):
    tenant: TenantShown


class TenantsAnswer(msgspec.Struct, frozen=True):
    tenants: list[TenantShown]


class RegistrationAnswer(msgspec.Struct, frozen=True):
    tenant: TenantShown
    api_key: str
    """Shown this once; only its hash is kept."""


class KeyAnswer(msgspec.Struct, frozen=True):
    key: KeyShown


class KeysAnswer(msgspec.Struct, frozen=True):
    keys: list[KeyShown]


class NewKeyAnswer(msgspec.Struct, frozen=True):
    key: KeyShown
    api_key: str
    """Shown this once; only its hash is kept."""


class RotationAnswer(msgspec.Struct, frozen=True):
    key: KeyShown
    api_key: str
    old_key: KeyShown


class TypesAnswer(msgspec.Struct, frozen=True):
    event_types: list[str]
    descriptions: dict[str, str]


class SeveritiesAnswer(msgspec.Struct, frozen=True):
    severities: list[str]
    """In rising order."""
    descriptions: dict[str, str]


class BatchBody(msgspec.Struct, frozen=True):
    """A batch of events."""

    events: list[Any]
    """Each as the body of a single event; one that is wrong costs only itself."""
    batch_id: str | None = None
    source_application: str | None = None
    """The source's name of events that do not say it themselves."""


class Alive(msgspec.Struct, frozen=True):
    status: str


class Ready(msgspec.Struct, frozen=True):
    status: str
    reason: str = ""
    warning: str = ""
    """What an operator has to see to although requests are served."""


def _event_body() -> Any:
    """`ApiEvent` with the members that are kept as they were sent shown as any JSON."""
    fields: list[tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(ApiEvent):
        kind, default = (Any, None) if field.type is msgspec.Raw else (field.type, field.default)
        fields.append((field.name, kind, msgspec.field() if default is msgspec.NODEFAULT else default))
    made = msgspec.defstruct("Event", fields, frozen=True)
    made.__doc__ = f"{ApiEvent.__doc__} Members that are not named here are kept as attributes."
    return made


EventBody = _event_body()
