"""Where the scope comes from: the state, the configuration, the environment, the machine, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import scope
from agent.errors import ConfigError, StateRefused


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host outside of any container; returns its machine-id file."""
    machine_id = tmp_path / "machine-id"
    machine_id.write_text("9f86d081884c7d65\n")
    monkeypatch.setattr(scope, "MACHINE_ID", machine_id)
    monkeypatch.setattr(scope, "_CONTAINER_SIGNS", (tmp_path / "dockerenv",))
    monkeypatch.setattr(scope.socket, "gethostname", lambda: "host-1")
    return machine_id


def test_what_the_state_recorded_wins() -> None:
    assert scope.resolve("recorded", "", {scope.ENV: "env"}) == scope.Scope("recorded", "the state folder")


def test_a_configuration_that_differs_from_the_state_changes_nothing_and_is_named() -> None:
    found = scope.resolve("recorded", "configured", {})
    assert found.value == "recorded"
    assert "'configured'" in found.warning
    assert "empty state_dir" in found.warning


def test_a_configuration_that_agrees_with_the_state_is_no_warning() -> None:
    assert scope.resolve("same", "same", {}).warning == ""


def test_the_configuration_comes_before_the_environment() -> None:
    assert scope.resolve("", "configured", {scope.ENV: "env"}) == scope.Scope("configured", "the configuration")


def test_the_environment_comes_before_the_machine(machine: Path) -> None:
    assert scope.resolve("", "", {scope.ENV: "pod-uid"}) == scope.Scope("pod-uid", scope.ENV)


def test_outside_containers_it_is_the_machine_id(machine: Path) -> None:
    assert scope.resolve("", "", {}) == scope.Scope("9f86d081884c7d65", str(machine))


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_without_a_machine_id_it_is_the_host_name_with_a_warning(machine: Path, content: bytes | None) -> None:
    machine.unlink() if content is None else machine.write_bytes(content)
    found = scope.resolve("", "", {})
    assert (found.value, found.taken_from) == ("host-1", "the host's name")
    assert scope.ENV in found.warning


@pytest.mark.parametrize("sign", ["file", "kubernetes"])
def test_the_machine_id_of_a_container_is_not_trusted(machine: Path, sign: str) -> None:
    """An image carries one machine-id into all its containers."""
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"} if sign == "kubernetes" else {}
    if sign == "file":
        (machine.parent / "dockerenv").touch()
    found = scope.resolve("", "", env)
    assert found.value == "host-1"
    assert found.warning


def test_a_scope_file_is_made_once_whole_and_like_no_other(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    for file in (first, second):
        said = scope.resolve("", "", {scope.ENV: "env"}, str(file))
        assert (said.value, f"{file}: there is no scope in it yet" in said.warning) == ("", True)
        scope.keep(str(file), "")
    made = scope.resolve("", "", {scope.ENV: "env"}, str(first))
    assert (len(made.value), made.taken_from, made.warning) == (32, str(first), "")
    assert made.value != scope.resolve("", "", {}, str(second)).value
    scope.keep(str(first), "")
    assert scope.resolve("", "", {}, str(first)) == made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_scope_file_that_is_lost_or_damaged_is_made_again_of_what_the_state_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "scope"
    for content in (None, b"", b"\xff\xfe", b"two\nlines", b"x" * 5000):
        if content is not None:
            file.write_bytes(content)
        scope.keep(str(file), "recorded")
        assert file.read_text() == "recorded\n"
        assert caplog.text == ""
    file.write_bytes(b"\0")
    scope.keep(str(file), "")
    assert len(scope.resolve("", "", {}, str(file)).value) == 32
    assert "lines may be sent again" in caplog.text


def test_what_stands_in_a_scope_file_changes_no_state(tmp_path: Path) -> None:
    file = tmp_path / "scope"
    file.write_text("of the volume\n")
    scope.keep(str(file), "recorded")
    assert file.read_text() == "of the volume\n"
    said = scope.resolve("recorded", "", {}, str(file))
    assert (said.value, f"scope is 'of the volume' in {file}, but" in said.warning) == ("recorded", True)


def test_of_two_that_make_it_at_once_the_first_has_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "scope"

    def another_is_quicker(new: str, path: str) -> None:
        file.write_text("of the other\n")
        raise FileExistsError

    monkeypatch.setattr(scope.os, "link", another_is_quicker)
    scope.keep(str(file), "")
    assert file.read_text() == "of the other\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_system_without_links_takes_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(new: str, path: str) -> None:
        raise PermissionError

    monkeypatch.setattr(scope.os, "link", none)
    scope.keep(str(tmp_path / "scope"), "recorded")
    assert (tmp_path / "scope").read_text() == "recorded\n"


def test_without_a_place_for_it_nothing_begins_and_what_runs_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The volume is not mounted, or the file is not one that can be read: another scope would send everything again."""
    unreadable = tmp_path / "folder"
    unreadable.mkdir()
    for path, why in ((tmp_path / "away" / "scope", "No such file"), (unreadable, "Is a directory")):
        with pytest.raises(StateRefused, match=f"scope_file: {path}: {why}.*; name one in a folder of the logs' volume"):
            scope.keep(str(path), "")
        caplog.clear()
        scope.keep(str(path), "recorded")
        assert "the scope stays as the state has it" in caplog.text
        assert scope.resolve("recorded", "", {}, str(path)).value == "recorded"
    assert f"{unreadable}: Is a directory" in scope.resolve("", "", {}, str(unreadable)).warning
    with pytest.raises(ConfigError, match="there is no scope in it yet"):
        scope.told("", "", {scope.ENV: "env"}, str(tmp_path / "scope"))
