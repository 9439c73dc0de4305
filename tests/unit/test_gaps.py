"""Where runs of NULs begin and end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.files import gaps
from agent.files.gaps import GAP_BYTES, Looked, data_after, first_gap, text_at_front

ZEROS = bytes(GAP_BYTES)


class File:
    """A file by its descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, position: int, length: int) -> bytes:
        return os.pread(self._fd, length, position)

    def next_data(self, at: int, size: int) -> int:
        return gaps.next_data(self._fd, at, size)


@pytest.mark.parametrize(
    ("content", "offset", "at"),
    [
        (b"a line\n" + ZEROS, 0, 7),
        (b"half" + ZEROS + b"more", 9, 4),
        (b"half" + ZEROS[1:] + b"more\n", 9, 4 + GAP_BYTES - 1 + 5),
        (b"\0line\n", 0, 0),
        (b"\0line\n", 7, 6),
        (ZEROS, 7, 0),
        (b"", 0, 0),
    ],
)
def test_a_run_counts_at_the_front_of_a_file_or_by_its_length(content: bytes, offset: int, at: int) -> None:
    assert first_gap(content, 0, len(content), offset=offset) == at


def test_what_lies_outside_the_bounds_is_not_looked_at() -> None:
    content = ZEROS + b"line\n" + ZEROS
    assert first_gap(content, GAP_BYTES, GAP_BYTES + 5 + GAP_BYTES - 1, offset=5) == GAP_BYTES + 5 + GAP_BYTES - 1


def test_half_of_a_wide_newline_is_not_the_runs() -> None:
    text = "ab\n".encode("utf-16-le")
    assert first_gap(text + ZEROS, 0, len(text) + GAP_BYTES, offset=0, unit=2) == len(text)
    wide = "ab\n".encode("utf-16-be")
    assert first_gap(wide, 0, len(wide), offset=0, unit=2) == len(wide)


@given(before=st.binary(max_size=50), zeros=st.integers(1, 3000), behind=st.binary(max_size=50), limit=st.integers(1, 4000))
def test_the_end_of_a_run_is_the_first_byte_that_is_no_nul(before: bytes, zeros: int, behind: bytes, limit: int) -> None:
    content = before + bytes(zeros) + behind
    file = os.memfd_create("gaps")
    try:
        os.write(file, content)
        rest = content[len(before) :]
        wanted = len(content) - len(rest.lstrip(b"\0"))
        found = data_after(File(file), len(before), len(content), limit=limit)
        assert found == Looked(wanted, wanted < len(content))
        assert text_at_front(File(file), len(content), 10) == (
            (lead := len(content) - len(content.lstrip(b"\0"))),
            content[lead : lead + 10],
        )
    finally:
        os.close(file)


def test_a_look_is_bounded_and_can_be_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "next_data", lambda fd, at, size: at)  # a file system that tells nothing
    size = (5 << 20) + 3
    path = tmp_path / "zeros"
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(b"x")
    with path.open("rb") as file:
        first = data_after(File(file.fileno()), 0, size + 1, limit=2 << 20)
        assert first == Looked(2 << 20, False)
        assert data_after(File(file.fileno()), first.at, size + 1) == Looked(size, True)


def test_a_hole_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "hole"
    with path.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 40)
        file.write(b"x")
    with path.open("rb") as file:
        assert data_after(File(file.fileno()), 0, (1 << 40) + 1) == Looked(1 << 40, True)
