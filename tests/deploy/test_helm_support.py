"""The helpers that other tests of charts lean on notice what they are there for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import helm, values_table

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec:
  ports: [{port: 80}]
MORE
"""


def chart(folder: Path, more: str = "") -> Path:
    (folder / "templates").mkdir()
    (folder / "Chart.yaml").write_text("{apiVersion: v2, name: tiny, version: 1.0.0, icon: 'https://example.com/i.png'}")
    (folder / "values.yaml").write_text("")
    (folder / "templates" / "service.yaml").write_text(SERVICE.replace("MORE", more))
    return folder


def test_a_chart_is_rendered_and_its_objects_are_checked_for_both_ends_of_the_versions(tmp_path: Path) -> None:
    objects = helm.render(chart(tmp_path), release="blue")
    helm.check(objects)
    assert helm.names(objects) == ["Service/blue"]


def test_a_misspelt_field_is_found(tmp_path: Path) -> None:
    objects = helm.render(chart(tmp_path, "  sessionAfinity: None"))
    with pytest.raises(AssertionError, match=r"Service/ps, 1\.29\.0: spec: .*sessionAfinity"):
        helm.check(objects)


def test_a_key_said_twice_is_found(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="said twice: type"):
        helm.render(chart(tmp_path, "  type: ClusterIP\n  type: NodePort"))


def test_helms_own_word_is_passed_on(tmp_path: Path) -> None:
    assert "no such port" in helm.refusal(chart(tmp_path, '{{ fail "no such port" }}'), {})
    assert "1 chart(s) linted, 0 chart(s) failed" in helm.lint(tmp_path)
    (tmp_path / "templates" / "service.yaml").write_text("kind: a: b")
    with pytest.raises(helm.Refused, match="unable to parse YAML"):
        helm.lint(tmp_path)


def test_a_value_that_nothing_describes_is_named() -> None:
    text = "# -- How many.\n# At least one.\nreplicas: 1\nimage:\n  tag: ''\n  # -- Where from.\n  registry: ''\n"
    with pytest.raises(AssertionError, match=r"describes: image\.tag$"):
        values_table.rows(text)
    described = text.replace("  tag", "  # -- Which | what.\n  tag")
    assert values_table.table(described).splitlines()[2:] == [
        "| `replicas` | `1` | How many. At least one. |",
        '| `image.tag` | `""` | Which \\| what. |',
        '| `image.registry` | `""` | Where from. |',
    ]
