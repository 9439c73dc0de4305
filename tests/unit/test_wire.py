"""The wire contract: kept bytes decode for ever, damage is refused wherever it is, newer is told from damaged."""

from __future__ import annotations

import ast
import struct
import sys
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from agent.codec import decompress

AGENT = Path(wire.__file__).parent
GOLDEN = Path(__file__).parents[1] / "golden"

LINES = b'GET / 200\n\xff\x00 not text\r\n{"level":"warn"}\n'
DATA_HEADER = wire.Header(
    wire.DATA,
    "0a1b2c3d00000001",
    agent="host-1",
    scope="9f86d081884c7d65",
    source="shop",
    service="shop-api",
    path="/var/log/shop/über.log",
    file_id="00c0ffee00c0ffee",
    origin="feedfacefeedface",
    base_offset=4096,
    source_from=4096,
    source_to=4136,
    raw_bytes=len(LINES),
    events=3,
    format="json",
    observed_ns=1_767_225_600_123_456_789,
    flags=wire.REPLAY | wire.REPRODUCIBLE,
    labels={"env": "prod", "zone": "b"},
    fields=wire.Fields(("when",), ("lvl", "level"), ("text",)),
    offsets=b"\x28\xb5\x2f\xfd\x20\x0c\x61\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x00\x17\x00\x00\x00",
    checkpoint=b"\x93\x01\x02\x03",
)
SHAPED = b"one\ntwo\nand more\n" + struct.pack("<2I2I2H", 3, 12, 0, 400, 0, 1) + b"\n2026-01-02T03:04:05.6Z\n"
SHAPED_HEADER = wire.ShapedHeader(
    **{
        **msgspec.structs.asdict(DATA_HEADER),
        "raw_bytes": len(SHAPED),
        "events": 2,
        "data_bytes": 17,
        "sizes": True,
        "steps": True,
        "marks": ({}, {"stream": "stderr"}),
        "times_bytes": 24,
    }
)
LOSSES = (
    wire.Loss("feedfacefeedface-1000", "/var/log/a.log", "a", "cut_before_read", 4096, True, 4096, "00c0ffee00c0ffee", 17, 3),
    wire.Loss("feedfacefeedface-2000", "/var/log/b.log", "b", "deleted_before_read", 0, False, 0, "", 18),
)
LOSS_HEADER = wire.Header(wire.LOSS, "0a1b2c3d00000002", agent="host-1", raw_bytes=149, events=2, observed_ns=19)

HEARTBEAT = wire.Heartbeat(
    version="0.1.0",
    uptime_s=61.5,
    stopping=True,
    sending="HTTP 503",
    reading="ok",
    spool_bytes=70_000,
    unsynced_bytes=700,
    held_bytes=6_000,
    lag_bytes=9_000,
    lag_s=12.5,
    quarantined=1,
    rejected_events=2,
    lost_bytes=1_000,
    losses={"deleted_before_read": 1_000},
    files_total=1,
    files=(wire.FileHealth("/var/log/shop/über.log", "shop", 10_000, 7_000, None, 3_000, 12.5, "followed", "EIO"),),
)
HEARTBEAT_HEADER = wire.Header(
    wire.HEARTBEAT,
    "heartbeat-0a1b2c3d-1",
    agent="host-1",
    scope="9f86d081884c7d65",
    raw_bytes=147,
    observed_ns=1_795_428_000_000_000_000,
)


def golden(name: str) -> bytes:
    """Kept bytes of each version. Made once with ``encode_record`` from the header above and the payload inside them (its zstd
    frame differs between zstd releases, so it is taken from the file). They are never written again: a change that these
    tests refuse needs a new version and files beside these."""
    return (GOLDEN / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("record-data-v1.bin", DATA_HEADER),
        ("record-loss-v1.bin", LOSS_HEADER),
        ("record-heartbeat-v1.bin", HEARTBEAT_HEADER),
        ("record-shaped-v2.bin", SHAPED_HEADER),
    ],
    ids=["data", "loss", "heartbeat", "shaped"],
)
def test_kept_records_decode_to_what_they_were_made_of_and_encode_to_the_same_bytes(name: str, header: wire.Header) -> None:
    kept = golden(name)
    record = wire.decode_record(kept)
    assert record.header == header
    assert record.end == len(kept)
    assert wire.encode_record(header, bytes(record.payload)) == kept


READ_HEADER = msgspec.structs.replace(
    DATA_HEADER,
    format="regex",
    fields=wire.Fields(("t",), ("l",), ("m",), r"(?P<t>\S+) (?P<l>\w+) (?P<m>.*)", "%d.%m.%Y %H:%M", "Europe/Paris"),
)


def test_what_a_record_says_of_how_lines_are_read_is_kept_and_says_nothing_new_where_it_has_nothing_to_say() -> None:
    kept = golden("record-read-v1.bin")
    record = wire.decode_record(kept)
    assert record.header == READ_HEADER
    assert wire.encode_record(READ_HEADER, bytes(record.payload)) == kept
    assert wire.decode_record(golden("record-data-v1.bin")).header.fields.pattern == ""


def test_the_golden_data_record_sets_every_field() -> None:
    defaults = msgspec.structs.replace(wire.Header(0, ""))
    for field in wire.Header.__struct_fields__:
        assert getattr(DATA_HEADER, field) != getattr(defaults, field), field
    for field in wire.ShapedHeader.__struct_fields__[len(wire.Header.__struct_fields__) :]:
        assert getattr(SHAPED_HEADER, field) != getattr(wire.ShapedHeader(0, ""), field), field


def test_the_kept_heartbeat_sets_every_field_and_says_the_same() -> None:
    record = wire.decode_record(golden("record-heartbeat-v1.bin"))
    assert wire.decode_heartbeat(decompress(record.payload, record.header.raw_bytes)) == HEARTBEAT
    defaults = wire.Heartbeat("")
    unset = [name for name in wire.Heartbeat.__struct_fields__ if getattr(HEARTBEAT, name) == getattr(defaults, name)]
    assert unset == ["recovered_bytes"], "what came later"


def test_an_older_collector_reads_losses_that_are_taken_back_and_heartbeats_that_say_so() -> None:
    class OldLoss(msgspec.Struct, array_like=True):
        loss_id: str
        path: str
        source: str
        reason: str
        lost_bytes: int
        at_least: bool
        offset: int
        file_id: str
        time_ns: int
        events: int = 0

    back = msgspec.structs.replace(LOSSES[0], lost_bytes=0, at_least=False, takes_back=True)
    assert wire.decode_losses(wire.encode_losses((back,))) == (back,)
    (old,) = msgspec.msgpack.decode(wire.encode_losses((back,)), type=tuple[OldLoss, ...])
    assert (old.loss_id, old.lost_bytes, old.events) == ("feedfacefeedface-1000", 0, 3)
    said = msgspec.structs.replace(HEARTBEAT, recovered_bytes=7)
    assert wire.decode_heartbeat(wire.encode_heartbeat(said)) == said


def test_kept_payloads_hold_the_lines_and_the_losses() -> None:
    data, loss = (wire.decode_record(golden(f"record-{kind}-v1.bin")) for kind in ("data", "loss"))
    assert decompress(data.payload, data.header.raw_bytes) == LINES
    assert wire.decode_losses(decompress(loss.payload, loss.header.raw_bytes)) == LOSSES
    shaped = wire.decode_record(golden("record-shaped-v2.bin"))
    assert decompress(shaped.payload, shaped.header.raw_bytes) == SHAPED


def test_only_a_record_that_needs_it_carries_version_2() -> None:
    assert wire.encode_record(DATA_HEADER, b"")[3] == 1
    assert wire.encode_record(SHAPED_HEADER, b"")[3] == 2


@pytest.mark.parametrize("what", ["header", "payload"])
def test_what_could_not_be_read_again_is_not_written(what: str) -> None:
    labels = {"much": "x" * wire.MAX_HEADER_BYTES} if what == "header" else {}
    payload = bytes(wire.MAX_PAYLOAD_BYTES + 1) if what == "payload" else b""
    with pytest.raises(ValueError, match=f"a record of /a from byte 7 on has a header of .*{wire.MAX_HEADER_BYTES}"):
        wire.encode_record(wire.Header(wire.DATA, "r", path="/a", source_from=7, labels=labels), payload)


def test_the_prefix_lies_as_it_is_documented() -> None:
    record = wire.encode_record(wire.Header(wire.DATA, "r"), b"payload")
    head_len = len(record) - 16 - len(b"payload")
    assert record[:4] == b"PSR\x01"
    assert record[4:8] == head_len.to_bytes(4, "little")
    assert record[8:12] == (7).to_bytes(4, "little")
    assert record[12:16] == zlib.crc32(record[:12] + record[16:]).to_bytes(4, "little")


def test_a_flipped_bit_anywhere_is_refused_and_named() -> None:
    record = wire.encode_record(wire.Header(wire.DATA, "r-1", path="/var/log/a.log", events=2), b"some payload")
    for bit in range(len(record) * 8):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(wire.BadRecord, match=r"^bad record at byte 3: ."):
            wire.decode_record(b"..." + bytes(damaged), 3)


def test_a_record_cut_at_any_byte_is_a_cut_record() -> None:
    record = wire.encode_record(wire.Header(wire.DATA, "r-1"), b"some payload")
    for length in range(len(record)):
        with pytest.raises(wire.CutRecord, match=f"{length} bytes left"):
            wire.decode_record(record[:length])


def test_fields_that_a_newer_program_appended_are_ignored() -> None:
    header = wire.Header(wire.DATA, "r-1", path="/a", events=2)
    longer = [*msgspec.msgpack.decode(msgspec.msgpack.encode(header)), "new field", {"and": "another"}]
    assert wire.decode_record(sealed(msgspec.msgpack.encode(longer), b"x")).header == header


def test_fields_that_an_older_program_did_not_know_have_their_defaults() -> None:
    assert wire.decode_record(sealed(msgspec.msgpack.encode([wire.DATA, "r-1"]), b"")).header == wire.Header(wire.DATA, "r-1")


def test_a_newer_version_is_told_apart_from_damage() -> None:
    newer = sealed(b"a layout that nobody knows yet", b"x", version=3)
    with pytest.raises(wire.UnknownVersion, match="version 3; this program knows versions up to 2"):
        wire.decode_record(newer)
    with pytest.raises(wire.BadRecord, match="checksum") as caught:
        wire.decode_record(newer[:-1] + b"y")
    assert not isinstance(caught.value, wire.UnknownVersion)


def test_a_header_that_is_none_is_refused_although_its_checksum_is_right() -> None:
    with pytest.raises(wire.BadRecord, match="header: "):
        wire.decode_record(sealed(b"\xc1", b""))


@pytest.mark.parametrize(("head_len", "payload_len"), [(wire.MAX_HEADER_BYTES + 1, 0), (0, wire.MAX_PAYLOAD_BYTES + 1)])
def test_lengths_beyond_the_limits_are_damage_not_a_reason_to_wait(head_len: int, payload_len: int) -> None:
    prefix = b"PSR\x01" + head_len.to_bytes(4, "little") + payload_len.to_bytes(4, "little") + bytes(4)
    with pytest.raises(wire.BadRecord, match="are beyond") as caught:
        wire.decode_record(prefix)
    assert not isinstance(caught.value, wire.CutRecord)
    assert wire.record_length(prefix) is None


def test_the_length_of_a_record_is_known_from_its_prefix() -> None:
    record = wire.encode_record(wire.Header(wire.DATA, "r-1"), b"some payload")
    assert wire.record_length(record[: wire.PREFIX_BYTES]) == len(record)
    assert wire.record_length(record[: wire.PREFIX_BYTES - 1]) is None
    assert wire.record_length(b"X" + record[1:]) is None


def test_a_run_is_its_records_in_order_up_to_the_first_bad_one() -> None:
    records = [wire.encode_record(wire.Header(wire.DATA, f"r-{n}"), b"x" * n) for n in range(3)]
    run = wire.decode_run(b"".join(records) + records[0][:-1])
    assert [next(run).header.record_id for _ in records] == ["r-0", "r-1", "r-2"]
    with pytest.raises(wire.CutRecord, match=f"at byte {sum(map(len, records))}:"):
        next(run)


@given(st.text(max_size=20), st.integers(0, 1 << 47), st.binary(max_size=200))
def test_any_header_and_payload_come_back_as_they_were(path: str, offset: int, payload: bytes) -> None:
    header = wire.Header(wire.DATA, "r", path=path, base_offset=offset, labels={path: path})
    record = wire.decode_record(wire.encode_record(header, payload))
    assert (record.header, bytes(record.payload)) == (header, payload)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_record_or_a_bad_record(data: bytes) -> None:
    with pytest.raises(wire.BadRecord):
        wire.decode_record(b"PSR\x01" + data)


def test_an_event_id_has_the_pattern_that_clients_may_not_use() -> None:
    name = wire.event_id("00c0ffee00c0ffee", 4096, b"line")
    assert name == f"00c0ffee00c0ffee-000000001000-{zlib.crc32(b'line'):08x}"
    assert wire.EVENT_ID.fullmatch(name)


def test_ids_of_a_file_sort_as_its_lines_do() -> None:
    names = [wire.event_id("00c0ffee00c0ffee", offset, b"line") for offset in (0, 9, 255, 4096, 1 << 40)]
    assert names == sorted(names)


def test_the_wire_contract_needs_only_the_standard_library_and_msgspec() -> None:
    assert {name for name in imports(AGENT / "wire.py") if name not in sys.stdlib_module_names} == {"msgspec"}


def test_the_agent_never_imports_the_collector() -> None:
    assert [path.name for path in AGENT.rglob("*.py") if "collector" in imports(path)] == []


def imports(path: Path) -> set[str]:
    """Top-level names of every module that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def sealed(head: bytes, payload: bytes, *, version: int = wire.VERSION) -> bytes:
    """A record with a right checksum around any header bytes."""
    prefix = b"PSR" + bytes([version]) + len(head).to_bytes(4, "little") + len(payload).to_bytes(4, "little")
    return prefix + zlib.crc32(prefix + head + payload).to_bytes(4, "little") + head + payload
