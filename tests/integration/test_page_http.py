"""The page's files as they are served: what a browser is told to run, and what it never may."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.page import assets
from tests.support.collector import Collector

pytestmark = pytest.mark.engine

STATIC = Path(assets.__file__).parent / "static"
VENDORED = {"preact-htm.js": "72284e8e9079c87817145df1110f74e8a2aa040b2fc384922e18dfcb46fc1fd7"}
MOST_BYTES = 200_000
BROWSER = {"Accept": "text/html,application/xhtml+xml", "Accept-Encoding": "gzip"}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with Collector(tmp_path_factory.mktemp("page")) as collector:
        yield collector


def test_browsers_get_the_page_and_programs_the_list_of_the_api(collector: Collector) -> None:
    page = collector.request("GET", "/", query={"q": "x", "from": "-1h"}, headers=BROWSER)
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'<div id="page">' in gzip.decompress(page.body)
    assert collector.request("GET", "/", headers={"Accept": "*/*"}).body["name"] == "pulsestream-collector"


def test_every_file_forbids_what_the_page_does_not_do(collector: Collector) -> None:
    for name in ("/", *(f"/page/{name}" for name in assets.load() if name != assets.INDEX)):
        headers = collector.request("GET", name, headers=BROWSER).headers
        rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
        assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_has_no_script_or_style_inside_and_names_nobody_else() -> None:
    index = (STATIC / assets.INDEX).read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", index)
    for path in STATIC.glob("*.js"):  # content of logs becomes text only, whatever it holds
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text()
        ), path
    for path in (STATIC / assets.INDEX, *STATIC.glob("*.js"), *STATIC.glob("*.css")):
        assert not re.search(r"(?:src|href|from|import|url\()\s*[=(]?\s*[\"']?(?:https?:)?//", path.read_text()), path


def test_a_file_that_has_not_changed_is_not_sent_again(collector: Collector) -> None:
    first = collector.request("GET", "/page/app.js", headers=BROWSER)
    assert gzip.decompress(first.body) == (STATIC / "app.js").read_bytes()
    again = collector.request("GET", "/page/app.js", headers={**BROWSER, "If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert collector.request("GET", "/page/app.js", headers={"Accept": "*/*"}).body == (STATIC / "app.js").read_bytes()


@pytest.mark.parametrize("name", ["../assets.py", "LICENCES.md", "vendor/none.js", "%2e%2e/assets.js", "vendor/../app.js"])
def test_nothing_else_is_served(collector: Collector, name: str) -> None:
    assert collector.request("GET", f"/page/{name}", headers=BROWSER).status == 404


def test_the_page_is_light() -> None:
    assert sum(len(asset.packed) for asset in assets.load().values()) < MOST_BYTES


def test_a_library_is_the_one_that_its_table_names() -> None:
    for name, wanted in VENDORED.items():
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == wanted
        assert f"`{name}`" in (STATIC / "LICENCES.md").read_text()
    assert {path.name for path in (STATIC / "vendor").iterdir()} == set(VENDORED)


def test_a_key_says_whose_it_is(collector: Collector) -> None:
    key = collector.new_tenant("Blue Shop", slug="blue-shop")
    answer = collector.request("GET", "/api/v1/ingestion/key", key=key)
    assert answer.status == 200
    assert (answer.body["slug"], answer.body["name"], answer.body["expires"]) == ("blue-shop", "Blue Shop", None)
    assert {"ingest", "search"} <= set(answer.body["scopes"])
    assert key.startswith(f"ps_{answer.body['key_id']}_")
    assert collector.request("GET", "/api/v1/ingestion/key", key="ps_00000000_" + "x" * 43).status == 401
