"""The page in a real browser, Debian's chromium, before a real collector with the engine inside and a real agent."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.support.agent import AgentProcess, App
from tests.support.collector import ADMIN_TOKEN, Collector
from tests.support.wait import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCREENS = Path(__file__).resolve().parents[2] / "var" / "screens"
WAIT_MS = 60_000
ATTACK = '<script>document.title="taken"</script><img src=x onerror="document.title=\'taken\'">'
TRACE = 'Traceback (most recent call last):\n  File "shop/pay.py", line 12, in pay\n    charge(card)\nValueError: card refused'
COLOURED = "\x1b[31mred alert\x1b[0m and \x1b[1mbold\x1b[0m"
SERVICES = ("shop", "stock", "auth")
SEVERITIES = ("info", "info", "info", "debug", "warning", "error")
EVENTS = 1500


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(
                    pytest.mark.skip(
                        reason="chromium is not here, and could not be installed (Debian: apt-get install chromium)"
                    )
                )


def made(n: int, now_s: float) -> dict[str, Any]:
    """Event ``n``, so many times two seconds ago."""
    special = {3: ATTACK, 5: TRACE, 7: COLOURED, 9: json.dumps({"order": 17, "items": [{"sku": "a"}], "note": "as json"})}
    message = special.get(
        n, f"order {n} placed by customer {n % 50}" if n % 6 != 5 else f"payment {n} refused: timeout after {n} ms"
    )
    written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now_s - 2 * n))
    return {
        "timestamp": written, "level": SEVERITIES[n % 6], "message": message, "region": ("eu", "us")[n % 2], "number": n,
    }  # fmt: skip


class Site:
    """A collector with a tenant whose events are known, an agent of it, and keys."""

    def __init__(self, folder: Path, collector: Collector) -> None:
        self.collector = collector
        self.url = collector.url
        self.key = collector.new_tenant("Blue Shop", slug="blue-shop")
        self.admin_key, _ = self.key_of("blue-shop", ["search", "admin", "ingest"])
        self.empty_key = collector.new_tenant("Green Shop", slug="green-shop")
        logs = folder / "logs"
        logs.mkdir()
        now_s = time.time()
        for at, service in enumerate(SERVICES):
            lines = [json.dumps(made(n, now_s)) for n in reversed(range(EVENTS)) if n % 3 == at]
            (logs / f"{service}.json").write_text("\n".join(lines) + "\n")
        self.app = App(logs / "app.log")
        sources = [{"name": name, "format": "json", "include": [str(logs / f"{name}.json")]} for name in SERVICES]
        self.agent = AgentProcess(folder / "agent", url=collector.url, include=[])
        self.agent.configure(
            collector={"api_key": self.key},
            sources=[*sources, {"name": "app", "include": [str(logs / "app.log*")]}],
            flush_interval_s=0.2,
        )

    def ready(self) -> None:
        """Wait until all events can be found."""
        until(lambda: self.stored() == EVENTS, "the events are stored", told=self.agent.log)

    def total(self) -> int:
        """How many events there are in the hour that the page begins with: other tests add lines."""
        return until(lambda: self.stored(), "the collector counts")

    def stored(self, **filters: str) -> int:
        """0 also where it cannot be asked: the page's own queries may be under way."""
        query = {"start_time": "-1h", "end_time": "now", **filters}
        answer = self.collector.request("GET", "/api/v1/ingestion/stats", key=self.key, query=query)
        return int(answer.body["events"]["count"]) if answer.status == 200 else 0

    def key_of(self, slug: str, scopes: list[str]) -> tuple[str, str]:
        """A key, which is known by then, and its ID."""
        body = json.dumps({"name": "page", "scopes": scopes}).encode()
        made = self.collector.request("POST", f"/api/v1/tenants/{slug}/keys", body=body, headers={"X-Admin-Token": ADMIN_TOKEN})
        key = str(made.body["api_key"])
        until(lambda: self.collector.request("GET", "/api/v1/ingestion/key", key=key).status == 200, "the key is known")
        return key, key.split("_")[1]

    def revoke(self, slug: str, key_id: str) -> None:
        answer = self.collector.request(
            "DELETE", f"/api/v1/tenants/{slug}/keys/{key_id}", headers={"X-Admin-Token": ADMIN_TOKEN}
        )
        assert answer.status < 300, answer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("browser")
    with Collector(folder / "collector") as collector:
        site = Site(folder, collector)
        with site.agent:
            site.ready()
            yield site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one file: the driver has an event loop in this thread until it is left, and other files' tests have their own."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A fresh tab, not signed in. What the browser complains of, but refusals that a test asks for, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, timezone_id="Europe/Berlin", base_url=site.url)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    faults: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            faults.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    context.close()
    assert not faults, faults


def sign_in(page: Page, key: str, path: str = "/") -> None:
    page.goto(path)
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation").wait_for()


def rows(page: Page) -> list[str]:
    """The messages of the rows in sight."""
    return page.locator(".space .c-message").all_inner_texts()


def shown(page: Page) -> None:
    """Wait until an answer is there, and its figures."""
    page.locator(".space .row").first.wait_for()
    page.locator(".histogram svg").wait_for()
    page.locator(".facets summary").first.wait_for()


def screen(page: Page, name: str) -> None:
    SCREENS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENS / f"{name}.png")
