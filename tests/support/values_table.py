"""The table of a chart's values, for its README, from the comments in its values.yaml (``# -- text``, as helm-docs reads them).

``python -m tests.support.values_table CHART`` writes it between the marks in ``charts/CHART/README.md``;
a test checks that it is there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

CHARTS = Path(__file__).resolve().parents[2] / "charts"
BEGIN, END = "<!-- values: begin -->", "<!-- values: end -->"


def rows(text: str) -> list[tuple[str, str, str]]:
    """Path, default and description of each value that has one. Raises AssertionError for values that nothing describes."""
    lines = text.splitlines()
    root = yaml.compose(text, yaml.SafeLoader)
    found, bare = [], []
    for path, key, value, described in _walk(root, "", lines, False):
        if description := _above(lines, key.start_mark.line):
            found.append((path, _shown(value), description))
        elif not described and not (isinstance(value, yaml.MappingNode) and value.value):
            bare.append(path)
    assert not bare, f"no `# -- ` comment describes: {', '.join(bare)}"
    return found


def _walk(
    node: yaml.Node | None, at: str, lines: list[str], described: bool
) -> Iterator[tuple[str, yaml.ScalarNode, yaml.Node, bool]]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        path = f"{at}.{key.value}" if at else str(key.value)
        yield path, key, value, described
        yield from _walk(value, path, lines, described or bool(_above(lines, key.start_mark.line)))


def _above(lines: list[str], number: int) -> str:
    """The comment right above a line, from its ``# -- `` on; empty without one."""
    said: list[str] = []
    while number > 0 and (line := lines[number - 1].strip()).startswith("#"):
        number -= 1
        if line.startswith("# -- "):
            return " ".join([line[5:].strip(), *said])
        said.insert(0, line.lstrip("#").strip())
    return ""


def _shown(node: yaml.Node) -> str:
    value = yaml.safe_load(yaml.serialize(node))
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if len(text) <= 60 else "see values.yaml"


def table(text: str) -> str:
    lines = [f"| `{path}` | {default} | {said.replace('|', chr(92) + '|')} |" for path, default, said in rows(text)]
    return "\n".join(("| value | default | |", "| --- | --- | --- |", *lines))


def readme(chart: str) -> str:
    """The chart's README as it must be: with the table of its values.yaml between the marks."""
    folder = CHARTS / chart
    before, _, rest = (folder / "README.md").read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{folder / 'README.md'}: put {BEGIN} and {END} where the table goes"
    return f"{before}{BEGIN}\n{table((folder / 'values.yaml').read_text())}\n{END}{after}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        (CHARTS / name / "README.md").write_text(readme(name))
