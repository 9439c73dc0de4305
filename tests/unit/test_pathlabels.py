"""Labels that the path of a file gives: which, in what order, and from both ends of a link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.config import Source
from agent.reading.recorder import said_of
from agent.text import pathlabels
from agent.text.pathlabels import NOTHING, PathLabels, Said
from tests.support.reading import Reading, shipped
from tests.support.spooled import open_spool

PODS = r"/pods/(?P<namespace>[^_/]+)_(?P<pod>[^_/]+)_[^/]+/(?P<container>(?P<service>[^/]+))/"
CONTAINERS = r"/containers/(?P<pod>[^_/]+)_(?P<namespace>[^_/]+)_(?P<container>(?P<service>.+))-[0-9a-f]{64}\.log$"
LINK = f"/var/log/containers/web-0_shop_nginx-proxy-{'0a' * 32}.log"
REAL = "/var/log/pods/shop_web-0_0b1c-2d/nginx-proxy/0.log"
SAID = Said({"namespace": "shop", "pod": "web-0", "container": "nginx-proxy"}, "nginx-proxy")


@pytest.mark.parametrize(
    ("patterns", "path", "real_path", "said"),
    [
        ([PODS], REAL, REAL, SAID),
        ([PODS], REAL + ".20261125-100000.gz", REAL, SAID),
        ([CONTAINERS], LINK, REAL, SAID),
        ([PODS], LINK, REAL, SAID),
        ([CONTAINERS, PODS], REAL, REAL, SAID),
        ([r"(?P<a>web)", r"(?P<b>web)"], LINK, REAL, Said({"a": "web"})),
        ([r"(?P<a>/0\.log)", r"(?P<b>web)"], LINK, REAL, Said({"b": "web"})),
        ([r"(?P<a>web)(?P<none>!)?(?P<empty>)"], LINK, LINK, Said({"a": "web"})),
        ([r"(?P<a>nothing)"], LINK, REAL, NOTHING),
        ([], LINK, REAL, NOTHING),
    ],
)  # fmt: skip
def test_the_first_pattern_that_is_found_in_the_path_else_where_links_lead_gives_labels(
    patterns: list[str], path: str, real_path: str, said: Said
) -> None:
    assert {**PathLabels(patterns).of(path, real_path).labels} == said.labels
    assert PathLabels(patterns).of(path, real_path).service == said.service


def test_a_path_is_looked_at_once() -> None:
    labels = PathLabels([PODS])
    assert labels.of(REAL, REAL) is labels.of(REAL, REAL)


def test_the_configuration_goes_before_the_path_and_the_path_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text('pod="of the file"\nnamespace="of the file"\ntier="of the file"\n')
    source = Source("app", ("/a",), labels={"pod": "mine"}, labels_file=str(tmp_path / "labels"), path_labels=(PODS,))
    said = said_of(source, PathLabels(source.path_labels).of(REAL, REAL))
    assert said["labels"] == {"pod": "mine", "namespace": "shop", "container": "nginx-proxy", "tier": "of the file"}
    assert said["service"] == "nginx-proxy"
    assert said_of(source)["service"] == "app", "a path that says none leaves what the configuration says"


def test_labels_of_a_file_leave_room_for_those_of_the_path(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("".join(f'k{n}="v"\n' for n in range(wire.MAX_LABELS)))
    source = Source("app", ("/a",), labels_file=str(tmp_path / "labels"), path_labels=(PODS,))
    found = said_of(source, PathLabels(source.path_labels).of(REAL, REAL))["labels"]
    assert len(found) == wire.MAX_LABELS
    assert {"pod", "namespace", "container"} <= found.keys()


@pytest.mark.parametrize(
    ("pattern", "room", "said"),
    [
        ("(?P<pod>[^/]+", 64, "is no regular expression: missing )"),
        ("^/var/log/([^/]+)", 64, "has no named group; write for instance '/(?P<pod>"),
        (PODS, 2, "gives 3 labels, there is room for 2; drop some"),
        (PODS, 3, ""),
        ("(?P<service>x)", 0, ""),
    ],
)
def test_a_pattern_that_gives_nothing_or_too_much_is_a_fault(pattern: str, room: int, said: str) -> None:
    found = pathlabels.faults([pattern], room=room)
    assert [said in fault for fault in found] == [True] * bool(said), found


def test_every_record_of_a_file_has_them_and_so_has_what_was_rotated_away_behind_its_link(tmp_path: Path, logs: Path) -> None:
    """The name that is read first is a link; what is left of the rotated file is found where it really lies."""
    pods = tmp_path / "pods" / "shop_web-0_0b1c-2d" / "nginx"
    pods.mkdir(parents=True)
    live = pods / "0.log"
    link = logs / f"web-0_shop_nginx-{'0a' * 32}.log"
    link.symlink_to(live)
    live.write_text("first\n")
    source = {"path_labels": (PODS,), "labels": {"region": "eu"}}
    with Reading(tmp_path / "spool", logs, source=source) as reading:
        reading.has_read(1)
    with live.open("a") as file:
        file.write("second\n")
    live.rename(pods / "0.log.20261125-100000")
    live.write_text("third\n")
    with Reading(tmp_path / "spool", logs, source=source) as reading:
        reading.has_read(2)
    spool = open_spool(tmp_path / "spool")
    headers: list[Any] = [record.header for record in shipped(spool) if record.header.kind == wire.DATA]
    spool.close()
    wanted = {"namespace": "shop", "pod": "web-0", "container": "nginx", "region": "eu"}
    assert [(header.events, header.labels, header.service) for header in headers] == [(1, wanted, "nginx")] * 3
