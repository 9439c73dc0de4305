"""Bodies of JSON requests, whatever their bytes: events with an outcome each, or a refusal with its reason."""

from __future__ import annotations

import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.config import Limits
from collector.errors import CollectorError
from collector.ingest import batches, bodies, small_bodies
from collector.ingest.event_checks import ROW_COLUMNS, Checked, Refused, Rules, check, id_of_key, key_fault
from collector.store.schema import retention_class
from collector.tenants import administration
from collector.tenants.administration import Change, NewKey, Registration, Rotation
from collector.writing.event_parcels import Verdict
from tests.support.events import body, drained, event, full
from tests.support.mutations import JSON_BOMBS, examples, mutated, refused_well
from tests.support.records import NOW_NS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RULES = Rules(NOW_NS // 1000, 30, retention_class(30), 1 << 20)
MOST = 1 << 20
PLAIN, FULL = body(event()), body(full())
BATCH = body({"events": [event(), full()], "batch_id": "b", "source_application": "shop"})
NDJSON = PLAIN + b"\n" + FULL + b"\n\n"
ADMIN_BODIES = (
    body(
        {
            "name": "Blue",
            "slug": "blue",
            "contact_email": "a@example.com",
            "limits": {"retention_days": 3, "on_limit": "refuse"},
        }
    ),
    body({"name": "Blue", "rate_limit_per_minute": 3, "rate_limit_burst": 5, "max_events_per_month": 7, "disabled": True}),
    body({"name": "agents", "scopes": ["ingest", "search"], "expires": "2031-01-31T00:00:00Z"}),
    body({"overlap_s": 86400.5}),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(1 << 70), 1 << 70), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
PLACES = (
    "event_id",
    "event_type",
    "title",
    "message",
    "severity",
    "source",
    "context",
    "metrics",
    "error_details",
    "attributes",
    "payload",
    "metadata",
    "timestamp",
    "trace_id",
    "span_id",
    "unknown",
)


def mint(index: int) -> tuple[str, bool]:
    return f"minted-{index}", True


def written(found: Checked | Refused) -> None:
    """What was found can be stored, or said."""
    if isinstance(found, Refused):
        assert found.errors
        assert all(fault.field and fault.error for fault in found.errors)
        msgspec.json.encode(found.errors)
        return
    said = dict(zip(ROW_COLUMNS, found.row, strict=True))
    assert all(len(text) < 500 for text in (found.event_id, said["event_type"]))
    for value in found.row:
        texts = (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else (value,)
        for text in texts:
            if isinstance(text, str):
                text.encode()
    assert 0 <= said["timestamp"] < 1 << 63


def taken(work: Callable[[], Any]) -> Any:
    """The result; None after a refusal with its reason."""
    try:
        return work()
    except CollectorError as error:
        refused_well(error)
        return None


def batch(data: bytes, media: str) -> None:
    found = taken(lambda: drained(batches.opened(bodies.clean(data), media, RULES, mint, max_events=100)))
    if found is None:
        return
    for one in found.events:
        written(one)
    verdicts = dict.fromkeys(found.firsts, Verdict("accepted"))
    told = batches.answer(found, verdicts, batch_id="x", now_us=RULES.now_us, limited=None, failures_only=False, dry_run=False)
    msgspec.json.encode(told)


@given(mutated(PLAIN, FULL, bombs=JSON_BOMBS))
@examples(300)
@example(b'{"title":' + b"[" * 5000)
@example(b'{"attributes":{"a":' + b"[" * 900 + b"]" * 900 + b"}}")
@example(b'{"title":' + b"[" * 900 + b"]" * 900 + b"}")
@example(b'{"timestamp":' + b"9" * 5000 + b"}")
def test_a_damaged_event_is_checked_or_refused_with_every_fault(raw: bytes) -> None:
    written(check(bodies.clean(raw), RULES, mint))


@given(st.dictionaries(st.sampled_from(PLACES), JSON, min_size=1, max_size=3))
@examples(250)
def test_any_value_of_any_member_is_taken_or_named(changed: dict[str, Any]) -> None:
    written(check(bodies.clean(json.dumps({**full(), **changed}).encode()), RULES, mint))


@pytest.mark.parametrize("depth", [*range(150, 260, 5), 480, 490, 500, 900, 950, 980, 990, 1000])
def test_an_event_nested_to_the_edge_of_the_stack_is_taken_or_refused(depth: int) -> None:
    for name in ("title", "payload", "attributes", "source", "unknown", "timestamp", "context"):
        for opened, closed in ((b"[", b"]"), (b'{"a":', b"}")):
            deep = opened * depth + b"1" * (opened != b"[") + closed * depth
            raw = json.dumps(event(**{name: "@"})).encode().replace(b'"@"', deep)
            written(check(raw, RULES, mint))


@given(mutated(BATCH, NDJSON, bombs=JSON_BOMBS), st.sampled_from(("json", "lines")))
@examples(400)
def test_a_damaged_batch_has_an_outcome_for_each_event_or_a_reason(data: bytes, media: str) -> None:
    batch(data, media)


@given(
    mutated(
        gzip.compress(BATCH),
        gzip.compress(BATCH) * 3,
        zlib.compress(BATCH),
        zlib.compress(BATCH)[2:-4],
        zstd.compress(BATCH),
        zstd.compress(BATCH) + zstd.compress(b""),
        gzip.compress(b"\0" * (4 << 20)),
        zstd.compress(b"\0" * (4 << 20)),
        b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstd.compress(BATCH),
        b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8,
    ),
    st.one_of(st.sampled_from((*bodies.ENCODINGS, "x-gzip", "GZIP ", "br", "gzip, gzip")), st.text(max_size=8)),
)
@examples(250)
def test_a_packed_body_is_unpacked_within_its_bound_or_refused(data: bytes, encoding: str) -> None:
    found = taken(lambda: bodies.unpacked(data, encoding, most=MOST))
    assert found is None or len(found) <= MOST or found is data


@given(st.lists(st.binary(max_size=40_000), max_size=4), st.sampled_from(("gzip", "zstd")), st.integers(0, 30))
@examples(100)
def test_streams_one_after_the_other_are_one_body(parts: list[bytes], encoding: str, garbage: int) -> None:
    pack = gzip.compress if encoding == "gzip" else zstd.compress
    packed = b"".join(pack(part) for part in parts) or pack(b"")
    assert bodies.unpacked(packed, encoding, most=MOST) == b"".join(parts)
    if garbage:
        assert taken(lambda: bodies.unpacked(packed + b"?" * garbage, encoding, most=MOST)) is None


_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.S
)


@given(
    st.lists(
        st.sampled_from([b"\\", b"\\\\", b"\\ud83d", b"\\uDE00", b"\\udbff", b"\\uE000", b"ud800", b"d8", b'"', b"\\n", b"x"])
    )
)
@examples(250)
def test_halves_of_pairs_are_mended_and_nothing_else_is_touched(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert bodies.clean(data) == _ESCAPES.sub(lambda found: b"\\ufffd" if found[1] else found[0], data)


@given(mutated(*ADMIN_BODIES, bombs=JSON_BOMBS), st.sampled_from((Registration, Change, NewKey, Rotation)))
@examples(250)
@example(b'{"name":"\xff"}', Registration)
@example(b'{"limits":{"a":' + b"[" * 5000, Change)
def test_an_administrators_body_is_read_or_refused_by_name(data: bytes, kind: type[msgspec.Struct]) -> None:
    wanted: Any = taken(lambda: small_bodies.read(data, kind))
    if isinstance(wanted, Registration | Change):
        taken(lambda: administration.limits_with(Limits(), *administration._limit_changes(wanted)))


@given(st.dictionaries(st.one_of(st.sampled_from(Limits.__struct_fields__), st.text(max_size=9)), JSON, max_size=3))
@examples(300)
def test_any_limits_are_taken_or_refused_by_name(changes: dict[str, Any]) -> None:
    found = taken(lambda: administration.limits_with(Limits(), changes))
    assert found is None or 1 <= found.retention_days < 1 << 16


@given(st.text(alphabet=st.characters(codec=None), max_size=300))
@examples(200)
def test_any_idempotency_key_is_an_id_or_named(key: str) -> None:
    if fault := key_fault(key):
        msgspec.json.encode(fault)
    else:
        assert id_of_key(key) == id_of_key(key)
