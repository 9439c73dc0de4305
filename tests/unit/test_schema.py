"""The schema as text: what is printed is what runs, and it changes only with its version."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from collector.ingest.blocks import open_run
from collector.store import formats, schema
from collector.store.columns import BLOCK_COLUMNS, READ_COLUMNS, SHAPED_COLUMNS
from collector.writing import rows
from tests.support.records import NOW_NS, Event, record, shaped_record, tenant

GOLDEN = Path(__file__).parents[1] / "golden" / "schema.sql"
FINGERPRINTS = {1: "3f49ba6d932e1376", 2: "2479430a0e19be5b", 3: "04ecd4527a2b3453", 4: "2b89e8c9676d50c7"}
"""Of the golden file, per version. A new text takes a new version, and statements that lead there from the one before."""


def test_the_schema_is_the_kept_text() -> None:
    text = ";\n\n".join(schema.statements("pulsestream")) + ";\n"
    assert text == GOLDEN.read_text(), f"write the new text to {GOLDEN}, and raise schema.VERSION"


def test_a_new_text_has_a_new_version() -> None:
    assert FINGERPRINTS[schema.VERSION] == hashlib.blake2b(GOLDEN.read_bytes(), digest_size=8).hexdigest()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_of_older_versions_only_what_the_steps_change_is_made_otherwise(version: int) -> None:
    """All else that is new is made by its own statement. (What becomes of these is tested with an engine.)"""
    before = GOLDEN.with_name(f"schema-v{version}.sql").read_bytes()
    assert FINGERPRINTS[version] == hashlib.blake2b(before, digest_size=8).hexdigest()
    changed = set(before.decode().removesuffix(";\n").split(";\n\n")) - set(schema.statements("pulsestream"))
    made = {re.split(r"[ \n]", text.split("pulsestream.")[1])[0] for text in changed}
    views = {"ingest_json_view", "ingest_stored", "ingest_raw_shaped_view", "ingest_json_shaped_view"}
    assert made == {
        "events",
        "ingest_lines",
        *(views if version > 1 else views - {"ingest_raw_shaped_view", "ingest_json_shaped_view"}),
    }


def test_every_statement_can_be_run_again() -> None:
    assert all(" IF NOT EXISTS " in statement for statement in schema.statements("x"))


def test_every_statement_names_its_database() -> None:
    named = re.compile(r"\b(?:TO|FROM|TABLE IF NOT EXISTS|VIEW IF NOT EXISTS) (?!\()(\S+)")
    for statement in schema.statements("elsewhere")[1:]:
        assert all(name.startswith("elsewhere.") for name in named.findall(statement)), statement


def test_what_was_acknowledged_is_synced_in_every_kept_table() -> None:
    kept = [text for text in schema.statements("x") if "MergeTree" in text]
    assert len(kept) == len(schema.DURABLE_TABLES)
    for text in kept:
        assert all(f"{name} = {value}" in text for name, value in schema.DURABLE.items())


@pytest.mark.parametrize(
    ("days", "expected"), [(1, 7), (7, 7), (8, 14), (30, 30), (31, 90), (365, 365), (366, 730), (3650, 3650)]
)
def test_a_retention_class_never_keeps_less(days: int, expected: int) -> None:
    assert schema.retention_class(days) == expected


def test_a_block_row_has_a_value_for_every_column() -> None:
    (parcel,) = open_run(record(b"a\n"), tenant=tenant(), now_ns=NOW_NS)
    assert len(rows.block_row(parcel, commit_id=1, record=0, now_ns=NOW_NS)) == len(BLOCK_COLUMNS)
    (shaped,) = open_run(shaped_record(Event(0, b"a")), tenant=tenant(), now_ns=NOW_NS)
    assert len(rows.block_row(shaped, commit_id=1, record=0, now_ns=NOW_NS)) == len(SHAPED_COLUMNS)
    (read,) = open_run(record(b"a\n", format="logfmt"), tenant=tenant(), now_ns=NOW_NS)
    assert len(rows.block_row(read, commit_id=1, record=0, now_ns=NOW_NS)) == len(READ_COLUMNS)


def test_the_version_of_a_row_falls_with_time() -> None:
    assert rows.version_of(NOW_NS) > rows.version_of(NOW_NS + 1) > 0


def test_no_view_uses_a_function_that_throws_for_content() -> None:
    throwing = re.compile(r"\b(?:to(?:U?Int|Float|Decimal|Date)\w*|parseDateTime\w*)\b(?<!OrNull)(?<!OrZero)\(")
    for view in formats.views("x").values():
        assert not [name for name in throwing.findall(view) if name != "toUInt64("]
