"""What an analyst does in the page."""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import EVENTS, WAIT_MS, Site, rows, screen, shown, sign_in
from tests.support.wait import until

pytestmark = pytest.mark.engine
expect.set_options(timeout=WAIT_MS)


@pytest.fixture
def signed(page: Page, site: Site) -> Page:
    sign_in(page, site.key)
    shown(page)
    return page


def query(page: Page, text: str) -> None:
    page.get_by_role("combobox", name="Query").fill(text)
    page.get_by_role("combobox", name="Query").press("Enter")


def count(page: Page, text: str) -> None:
    """Wait until so many events are said to match."""
    expect(page.locator(".count").first).to_contain_text(text)


def test_a_wrong_key_is_refused_and_a_right_one_is_gone_with_the_tab(page: Page, site: Site) -> None:
    page.goto("/")
    page.get_by_label("API key").fill("ps_00000000_" + "x" * 43)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("is not known here")
    sign_in(page, site.key)
    shown(page)
    assert page.evaluate("document.cookie + JSON.stringify(localStorage)").count(site.key) == 0
    page.reload()
    shown(page)
    other = page.context.browser.new_context(base_url=site.url).new_page()  # type: ignore[union-attr]
    other.goto("/")
    expect(other.get_by_label("API key")).to_be_visible()
    other.context.close()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_query_finds_marks_and_is_in_the_address(signed: Page, site: Site) -> None:
    query(signed, "refused timeout severity:error")
    count(signed, f"of {EVENTS // 6 - 1:,}")
    assert all("refused" in text for text in rows(signed))
    assert signed.locator(".space mark").first.inner_text() == "refused"
    assert "q=refused+timeout+severity%3Aerror" in signed.url
    signed.go_back()
    count(signed, f"of {site.total():,}")
    signed.go_forward()
    expect(signed.get_by_role("combobox", name="Query")).to_have_value("refused timeout severity:error")
    screen(signed, "search")


def test_a_fault_is_shown_under_its_place(signed: Page) -> None:
    query(signed, "order level:loud")
    fault = signed.locator("#fault")
    expect(fault).to_contain_text("'loud' is no severity at column 13")
    text, caret = fault.locator("pre").inner_text().split("\n")
    assert text[caret.index("▲")] == "l"
    assert text[: caret.index("▲")] == "order level:"
    screen(signed, "fault")
    query(signed, "order level:info")
    expect(fault).to_have_count(0)


def test_fields_and_values_are_completed(signed: Page) -> None:
    box = signed.get_by_role("combobox", name="Query")
    box.click()
    box.press_sequentially("regi")
    signed.get_by_role("option", name=re.compile("region:")).wait_for()
    box.press("ArrowDown")
    box.press("Enter")
    option = signed.get_by_role("option", name=re.compile("^eu"))
    option.wait_for()
    option.dispatch_event("pointerdown")
    expect(box).to_have_value(re.compile(r"region:eu\s*$"))
    box.press("Enter")
    count(signed, f"of {EVENTS // 2:,}")


def test_a_facet_narrows_down_and_leaves_out(signed: Page, site: Site) -> None:
    facets = signed.locator(".facets")
    facets.get_by_title("only service stock").click()
    count(signed, f"of {EVENTS // 3:,}")
    expect(signed.get_by_role("combobox", name="Query")).to_have_value("service:stock")
    expect(facets.get_by_title("only service stock")).to_have_attribute("aria-pressed", "true")
    facets.get_by_title("only service stock").click()
    count(signed, f"of {site.total():,}")
    facets.get_by_role("button", name="without service stock").click()
    count(signed, f"of {site.total() - EVENTS // 3:,}")


def test_a_brush_over_the_histogram_zooms_and_back_undoes(signed: Page, site: Site) -> None:
    box = signed.locator(".histogram svg").bounding_box()
    assert box is not None
    signed.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 40)
    signed.mouse.down()
    signed.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 40, steps=4)
    signed.mouse.up()
    signed.wait_for_url(re.compile("to="))
    expect(signed.locator(".count").first).to_contain_text(re.compile(r"of (\d\d\d|\d\d) events in"))
    shown(signed)
    signed.go_back()
    count(signed, f"of {site.total():,}")
    assert "to=" not in signed.url


def test_one_event_is_shown_whole_linked_and_put_into_its_place(page: Page, site: Site) -> None:
    before = site.total()
    lines = site.app.write(60)
    until(lambda: site.total() == before + 60, "the lines are stored")
    sign_in(page, site.key, "/?q=" + lines[30].split(".")[0].strip().replace(" ", "+") + "&from=-1h")
    page.locator(".space .row").first.wait_for()
    page.locator(".space .row", has_text=lines[30][:15]).first.click()
    detail = page.get_by_role("region", name="One event")
    expect(detail).to_contain_text(str(site.app.path))
    screen(page, "event")
    link = page.url
    page.get_by_role("button", name="Show context").click()
    context = page.get_by_role("dialog", name="Lines around one event")
    context.locator(".line.this").wait_for()
    found = [line for line in context.locator(".line span").all_inner_texts() if line.startswith("app line")]
    at = found.index(lines[30])
    assert found[at - 20 : at + 20] == lines[10:50]
    screen(page, "context")
    page.keyboard.press("Escape")
    expect(context).to_have_count(0)
    page.goto(link)
    expect(page.get_by_role("region", name="One event")).to_contain_text(lines[30][:15])


def test_a_value_of_an_event_narrows_down(signed: Page) -> None:
    query(signed, "number:11")
    count(signed, "1 of 1")
    signed.locator(".space .row").first.click()
    signed.get_by_role("button", name="only attr.region us").click()
    expect(signed.get_by_role("combobox", name="Query")).to_have_value("number:11 attr.region:us")
    count(signed, "1 of 1")


def test_content_is_text_whatever_it_holds(signed: Page) -> None:
    query(signed, "number:3")
    count(signed, "1 of 1")
    assert "<script>document.title" in rows(signed)[0]
    signed.locator(".space .row").first.click()
    expect(signed.get_by_role("region", name="One event")).to_contain_text("<img src=x onerror=")
    assert signed.title() == "PulseStream"
    assert signed.locator(".events img, .events script").count() == 0


def test_traces_colours_and_json_are_laid_out(signed: Page) -> None:
    query(signed, "number:7")
    count(signed, "1 of 1")
    assert signed.locator(".space .ansi-1").inner_text() == "red alert"
    assert "\x1b" not in rows(signed)[0]
    query(signed, "number:9")
    count(signed, "1 of 1")
    signed.locator(".space .row", has_text="as json").first.click()
    assert json.loads(signed.locator(".detail .whole").first.inner_text())["items"] == [{"sku": "a"}]
    query(signed, "number:5")
    signed.locator(".space .row", has_text="Traceback").first.click()
    expect(signed.locator(".detail details.trace summary").first).to_contain_text("Traceback (most recent call last):")
    expect(signed.locator(".detail details.trace pre").first).to_contain_text("ValueError: card refused")


def test_a_line_written_to_a_file_is_in_the_tail_within_two_seconds(signed: Page, site: Site) -> None:
    signed.get_by_role("button", name="Live").click()
    expect(signed.locator("div.live")).to_contain_text("live ·")
    # The tail begins with the answer's first event, which the page does not show: what comes after it is shown.
    began_s = time.monotonic()
    (line,) = site.app.write(1)
    signed.locator(".space .c-message", has_text=line[:15]).wait_for(timeout=WAIT_MS)
    took_s = time.monotonic() - began_s
    signed.get_by_role("button", name="Pause").click()
    site.app.write(5)
    expect(signed.locator("div.live")).to_contain_text("waiting")
    signed.get_by_role("button", name="Go on").click()
    expect(signed.locator(".space .row")).to_have_count(6)
    screen(signed, "live")
    assert took_s < WAIT_MS / 1000
    signed.get_by_role("button", name="Live").click()
    shown(signed)


def test_a_tail_whose_key_was_revoked_says_so_and_does_not_promise_more(page: Page, site: Site) -> None:
    key, key_id = site.key_of("blue-shop", ["search"])
    page.clock.install()
    sign_in(page, key, "/?live=1")
    expect(page.locator("div.live")).to_contain_text("live ·")
    site.revoke("blue-shop", key_id)
    expect(page.locator("div.live")).to_contain_text("revoked")
    page.clock.run_for(3000)  # the line is said anew each second
    expect(page.locator("div.live")).to_contain_text("revoked")


def test_a_search_is_saved_used_and_deleted(signed: Page, site: Site) -> None:
    query(signed, "severity:error")
    count(signed, f"of {EVENTS // 6:,}")
    signed.get_by_role("button", name="Saved").click()
    sheet = signed.get_by_role("dialog", name="Saved searches")
    sheet.get_by_label("Save this one as").fill("Errors of the shop")
    sheet.get_by_role("button", name="Save", exact=True).click()
    expect(sheet.get_by_role("status")).to_contain_text("saved as Errors of the shop")
    signed.keyboard.press("Escape")
    query(signed, "")
    count(signed, f"of {site.total():,}")
    signed.get_by_role("button", name="Saved").click()
    sheet.get_by_role("button", name="Errors of the shop", exact=True).click()
    count(signed, f"of {EVENTS // 6:,}")
    signed.get_by_role("button", name="Saved").click()
    sheet.get_by_role("button", name="Delete Errors of the shop").click()
    expect(sheet).to_contain_text("None yet")


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_what_is_filtered_is_exported_whole(signed: Page, kind: str, tmp_path: Path) -> None:
    query(signed, "service:auth severity:error")
    wanted = sum(n % 3 == 2 and n % 6 == 5 for n in range(EVENTS))
    count(signed, f"of {wanted:,}")
    signed.get_by_role("button", name="Export").click()
    with signed.expect_download() as download:
        signed.get_by_role("button", name=kind, exact=True).click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    if kind == "parquet":
        import pyarrow.parquet

        assert pyarrow.parquet.read_table(path).num_rows == wanted
    else:
        with path.open(newline="") as file:
            assert sum(1 for _ in (csv.reader(file) if kind == "csv" else file)) == wanted + (kind == "csv")
    expect(signed.get_by_role("dialog", name="Export")).to_contain_text(f"events.{kind}")


def test_all_of_it_goes_by_keys(signed: Page) -> None:
    signed.keyboard.press("/")
    expect(signed.get_by_role("combobox", name="Query")).to_be_focused()
    signed.keyboard.type("service:shop")
    signed.keyboard.press("Enter")
    count(signed, f"of {EVENTS // 3:,}")
    signed.keyboard.press("Escape")
    signed.keyboard.press("j")
    signed.keyboard.press("j")
    second = signed.locator(".space .row").nth(1)
    expect(second).to_have_attribute("aria-selected", "true")
    expect(signed.get_by_role("region", name="One event")).to_be_visible()
    signed.keyboard.press("k")
    expect(signed.locator(".space .row").first).to_have_attribute("aria-selected", "true")
    signed.keyboard.press("Escape")
    expect(signed.get_by_role("region", name="One event")).to_have_count(0)
    signed.keyboard.press("?")
    expect(signed.get_by_role("dialog", name="Keys and syntax")).to_be_visible()
    signed.keyboard.press("Escape")
    expect(signed.get_by_role("dialog", name="Keys and syntax")).to_have_count(0)


def test_rows_are_loaded_as_they_are_scrolled_to_and_few_are_in_the_document(signed: Page, site: Site) -> None:
    total = site.total()
    end = "place => { place.scrollTop = place.scrollHeight }"
    for _ in range(10):  # each time there is more, until all is loaded
        signed.locator(".rows").evaluate(end)
        expect(signed.locator(".table")).not_to_have_attribute("aria-busy", "true")
        if f"{total:,} of {total:,}" in signed.locator(".count").first.inner_text():
            break
    count(signed, f"{total:,} of {total:,}")
    signed.locator(".rows").evaluate(end)
    assert signed.locator(".space .row").count() < 100
    signed.locator(".space .c-message", has_text="1499").wait_for()


def test_a_narrow_window_shows_the_same(page: Page, site: Site) -> None:
    page.set_viewport_size({"width": 390, "height": 780})
    sign_in(page, site.key)
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".space .row").first.click()
    box = page.get_by_role("region", name="One event").bounding_box()
    assert box is not None
    assert box["width"] > 350
    screen(page, "narrow")
    page.get_by_role("button", name="Close this event").click()
    expect(page.locator(".space .row").first).to_be_visible()


def test_a_tenant_sees_what_became_of_its_events(page: Page, site: Site) -> None:
    sign_in(page, site.admin_key, "/?view=tenant")
    expect(page.get_by_role("main")).to_contain_text("What came in, last 24 hours")
    expect(page.get_by_role("main")).to_contain_text("Budget")
    page.get_by_role("textbox", name="Name").fill("a key of the page")
    page.get_by_role("button", name="Make a key").click()
    made = page.locator(".made code").inner_text()
    assert made.startswith("ps_")
    row = page.locator("tr", has_text="a key of the page")
    page.on("dialog", lambda dialog: dialog.accept())
    row.get_by_role("button", name="Revoke").click()
    expect(row).to_contain_text("revoked")
    screen(page, "tenant")


def test_a_first_visit_shows_how_to_send(page: Page, site: Site) -> None:
    sign_in(page, site.empty_key)
    first = page.get_by_role("region", name="How to send events")
    expect(first).to_contain_text("Green Shop has no events")
    expect(first).to_contain_text(site.empty_key)
    first.get_by_role("tab", name="curl").click()
    expect(first.locator("pre")).to_contain_text(f"{site.url}/api/v1/ingestion/events")
    screen(page, "first")


def test_nothing_found_says_what_to_do_and_a_collector_that_is_away_is_named(signed: Page) -> None:
    query(signed, "nosuchwordanywhere")
    expect(signed.get_by_role("heading", name="No event matches")).to_be_visible()
    signed.context.set_offline(True)
    query(signed, "order")
    expect(signed.get_by_role("alert")).to_contain_text("The collector cannot be reached")
    expect(signed.locator(".banner")).to_contain_text("offline")
    signed.context.set_offline(False)
    signed.get_by_role("button", name="Try again").click()
    shown(signed)
