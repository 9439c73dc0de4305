"""Labels from a file: what it may say, when it is read again, and that it never holds up a line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import wire
from agent.config import Source
from agent.text import labels
from agent.text.labels import Labels
from tests.support.reading import Reading, shipped
from tests.support.spooled import open_spool


@pytest.fixture(autouse=True)
def _looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "LOOK_S", 0.0)


def test_what_kubernetes_writes_becomes_labels(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text('app.kubernetes.io/name="shop"\ntier="front \\"end\\"\\n\\u00e9\\\\"\nempty=""\n')
    found = Labels({"region": "eu"}, str(tmp_path / "labels")).now()
    assert found == {"app.kubernetes.io/name": "shop", "tier": 'front "end"\né\\', "empty": "", "region": "eu"}


def test_what_the_configuration_says_goes_first(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text('region="other"\npod="a"\n')
    assert Labels({"region": "eu"}, str(tmp_path / "labels")).now() == {"region": "eu", "pod": "a"}


def test_it_is_read_again_when_it_changes_also_by_a_link_that_leads_elsewhere(tmp_path: Path) -> None:
    """Kubernetes changes a link to a folder."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels").write_text(f'v="{name}"\n')
    (tmp_path / "data").symlink_to("one")
    found = Labels({}, str(tmp_path / "data" / "labels"))
    assert found.now() == {"v": "one"}
    (tmp_path / "new").symlink_to("two")
    os.replace(tmp_path / "new", tmp_path / "data")
    assert found.now() == {"v": "two"}


def test_a_file_that_cannot_be_read_leaves_what_was_known_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "labels"
    found = Labels({"region": "eu"}, str(path))
    assert found.now() == found.now() == {"region": "eu"}
    path.write_text('pod="a"\n')
    assert found.now() == {"pod": "a", "region": "eu"}
    path.unlink()
    assert found.now() == {"pod": "a", "region": "eu"}
    assert sum("labels_file" in record.getMessage() and "No such file" in record.getMessage() for record in caplog.records) == 2


def test_what_no_collector_takes_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "labels"
    lines = ["no label", 'half="', 'nul="\\x00"', f'long="{"x" * 5000}"', *(f'k{n}="v"' for n in range(70))]
    path.write_text("\n".join(lines))
    found = Labels({"region": "eu"}, str(path)).now()
    assert len(found) == wire.MAX_LABELS
    assert {"region", "k0", "k62"} <= found.keys()
    assert "11 entries are left out (no label, half=" in caplog.text
    said = labels.faults([Source("app", ("/a",), labels_file=str(path)), Source("b", ("/b",), labels_file="/no/such/file")])
    assert said[0] == f"source app: labels_file {path}: 'no label' is no key=\"value\""
    assert said[-1] == "source b: labels_file /no/such/file cannot be read: No such file or directory"


@given(st.binary(max_size=300))
def test_any_bytes_are_taken_and_what_comes_of_them_can_be_written(content: bytes) -> None:
    path = Path(f"/tmp/labels-{os.getpid()}")
    path.write_bytes(content)
    try:
        found = Labels({}, str(path)).now()
    finally:
        path.unlink()
    assert wire.decode_record(wire.encode_record(wire.Header(wire.DATA, "r", labels=found), b"")).header.labels == found


def test_lines_carry_them_from_when_they_are_there(tmp_path: Path, logs: Path) -> None:
    (tmp_path / "labels").write_text('pod="one"\n')
    path = logs / "app.log"
    settings = {"labels_file": str(tmp_path / "labels"), "labels": {"region": "eu"}}
    with Reading(tmp_path / "spool", logs, source=settings) as reading:
        path.write_text("first\n")
        reading.has_read(1)
        (tmp_path / "labels").write_text('pod="second"\n')
        with path.open("a") as file:
            file.write("second\n")
        reading.has_read(2)
    spool = open_spool(tmp_path / "spool")
    found = [record.header.labels for record in shipped(spool)]
    spool.close()
    assert found == [{"pod": "one", "region": "eu"}, {"pod": "second", "region": "eu"}]
