"""Where the scope comes from: the state, the configuration, the environment, the machine, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent import scope


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
