import base64

import msgspec
import pytest

from collector.errors import Invalid
from collector.ingest.moments import MAX_US, parse_moment, show_moment
from collector.search import query, summary
from collector.search.language.terms import words_of
from collector.search.query import AHEAD_US, DAY_US, Search, Span, parse

NOW = 1_795_000_000_000_000
HOUR = 3_600_000_000
TENANT = "tenant-a"
COLUMNS = {"message": "toValidUTF8(message)"}


def search(tenant_id: str = TENANT, now_us: int = NOW, **values: str) -> Search:
    return parse(list(values.items()), tenant_id=tenant_id, retention_days=30, now_us=now_us)


def refusal(*pairs: tuple[str, str]) -> Invalid:
    with pytest.raises(Invalid) as caught:
        parse(pairs, tenant_id=TENANT, retention_days=30, now_us=NOW)
    return caught.value


def test_without_a_range_everything_kept_is_searched_and_nothing_else() -> None:
    found = search()
    assert (found.start_us, found.end_us) == (NOW - 30 * DAY_US, NOW + AHEAD_US)


def test_nothing_older_than_the_retention_is_searched() -> None:
    assert search(start_time="2001-01-01").start_us == NOW - 30 * DAY_US


def test_a_cursor_does_not_reach_what_is_beyond_the_retention_by_now() -> None:
    for first in (search(order="asc"), Search(TENANT, 0, NOW, check=search(order="asc").check)):
        cursor = query.cursor_after(first, NOW - 30 * DAY_US, "id")
        assert search(order="asc", cursor=cursor, now_us=NOW + HOUR).start_us == NOW + HOUR - 30 * DAY_US


def test_one_event_is_asked_for_as_a_search_for_its_id_asks() -> None:
    statement = query.event_of_id(TENANT, "e", COLUMNS, retention_days=30, now_us=NOW)
    assert statement.params == query.where_of(search(event_id="e"))[1]
    assert query.where_of(search(event_id="e"))[0] in statement.sql


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-02", DAY_US),
        ("2026-11-23T10:00:00Z", 1_795_428_000_000_000),
        ("2026-11-23T10:00:00.123456789Z", 1_795_428_000_123_456),
        ("2026-11-23 11:00:00+01:00", 1_795_428_000_000_000),
        ("2026-11-23T11:00:00 01:00", 1_795_428_000_000_000),
        ("20261123T100000Z", 1_795_428_000_000_000),
        ("1795428000", 1_795_428_000_000_000),
        ("1795428000.5", 1_795_428_000_500_000),
        ("1795428000123", 1_795_428_000_123_000),
        ("1795428000123456", 1_795_428_000_123_456),
        ("1795428000123456789", 1_795_428_000_123_456),
        ("0", 0),
        ("now", NOW),
        ("-15m", NOW - HOUR // 4),
        ("-2w", NOW - 14 * DAY_US),
        ("-999999999w", 0),
        ("9999-12-31", MAX_US),
        ("0001-01-01", 0),
    ],
)
def test_a_moment_may_be_written_as(text: str, us: int) -> None:
    assert parse_moment(text, NOW) == us


@pytest.mark.parametrize("text", ["", "10", "yesterday", "-15", "15m", "-15y", "2026-13-01", "١٧٩٥٤٢٨٠٠٠", "1e9", "-1"])
def test_what_is_no_moment_is_told(text: str) -> None:
    assert parse_moment(text, NOW) is None


def test_a_moment_is_shown_with_microseconds_and_z() -> None:
    assert show_moment(1_795_428_000_000_000) == "2026-11-23T10:00:00.000000Z"
    assert show_moment(MAX_US) == "2299-12-31T23:59:59.999999Z"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("start_time", "x", "start_time: is not a time, got 'x'; expected ISO 8601"),
        ("limit", "0", "limit: expected a whole number from 1 to 1000, got '0'"),
        ("limit", "1001", "got '1001'"),
        ("limit", "ten", "got 'ten'"),
        ("limit", "", "got ''"),
        ("order", "up", "order: expected one of desc, asc, got 'up'"),
        ("severity", "loud", "severity: is not a severity, got 'loud'; one of debug, info, warning, error, critical"),
        ("service", ",", "service: expected 1 to 100 values"),
        ("q", "--!", "q: expected 1 to 32 words"),
        ("q", " ".join(f"w{n}" for n in range(33)), "q: more than 32 different words at column"),
        ("q", "a" * 1001, "q: is longer than 1000 characters"),
        ("event_id", "", "event_id: is empty"),
        ("cursor", "$$", "cursor: is not a cursor, got '$$'; use next_cursor of the page before"),
        ("cursor", "", "cursor: is not a cursor"),
        ("colour", "red", "colour: there is no such parameter, got 'red'; there are: start_time, end_time"),
        ("offset", "-1", "offset: expected a whole number from 0 to 10000, got '-1'; page by cursor"),
        ("event_type", "note", "event_type: is not an event type, got 'note'; one of api_call, user_action"),
        ("min_severity", "loud", "min_severity: is not a severity, got 'loud'; one of debug, info, warning"),
        ("status_code", "4x", "status_code: is no status, class or range, got '4x'; like 404, 5xx, 400-499"),
        ("status_code", "499-400", "got '499-400'"),
        ("status_code", "65536", "got '65536'"),
        ("status_code", "0xx", "got '0xx'"),
        ("status_code", "00", "got '00'"),
        ("tags", " , ", "tags: expected 1 to 100 values"),
        ("attr.", "x", "attr.: names no attribute, got 'x'; like attr.region=eu"),
        ("user_id", "", "user_id: expected 1 to 100 values"),
        ("format", "xml", "format: expected one of json, ndjson, got 'xml'"),
        ("service", "\udcff", "service: is not UTF-8"),
        ("endpoint", "x" * 4097, "endpoint: is longer than 4096 characters"),
    ],
)
def test_a_bad_parameter_is_named_with_what_was_sent_and_expected(name: str, value: str, said: str) -> None:
    assert said in refusal((name, value)).message


def test_every_bad_parameter_is_named_at_once() -> None:
    error = refusal(("limit", "x"), ("order", "y"), ("z", "1"))
    assert [fault.field for fault in error.errors] == ["z", "limit", "order"]
    assert error.message.endswith("(and 2 more, see errors)")


def test_an_end_before_the_start_is_refused() -> None:
    assert refusal(("start_time", "-1h"), ("end_time", "-2h")).errors[0].field == "end_time"


def test_a_single_value_given_twice_is_refused_and_a_list_is_joined() -> None:
    assert "limit: is given more than once" in refusal(("limit", "1"), ("limit", "2")).message
    found = parse([("service", "a,b"), ("service", " b , c ")], tenant_id=TENANT, retention_days=30, now_us=NOW)
    assert found.filters.columns == (("service", ("a", "b", "c", "a,b", " b , c ")),)


@pytest.mark.parametrize(
    ("values", "severities"),
    [
        ({"min_severity": "error"}, ("error", "critical")),
        ({"min_severity": "Warning", "severity": "debug,error"}, ("error",)),
    ],
)
def test_at_least_a_severity_means_it_and_the_higher_ones(values: dict[str, str], severities: tuple[str, ...]) -> None:
    assert search(**values).filters.columns == (("severity", severities),)


def test_severities_that_exclude_each_other_are_told() -> None:
    assert "min_severity: leaves nothing of severity" in refusal(("severity", "info"), ("min_severity", "error")).message


def test_statuses_are_values_classes_and_ranges() -> None:
    assert search(status_code="404,5XX,200-299").filters.statuses == ((404, 404), (500, 599), (200, 299))
    assert search(status_code="5,4000-65535").filters.statuses == ((5, 5), (4000, 65535))


def test_tags_given_apart_are_all_wanted_and_those_with_commas_one_of_them() -> None:
    found = parse([("tags", "a,b"), ("tags", "c")], tenant_id=TENANT, retention_days=30, now_us=NOW)
    assert found.filters.tags == (("a", "b", "a,b"), ("c",))


def test_a_text_with_commas_and_blanks_is_looked_for_whole_too() -> None:
    found = search(endpoint="/x?a=1, 2", host=" a ").filters
    assert found.columns == (("endpoint", ("/x?a=1", "2", "/x?a=1, 2")),)
    assert found.hosts == ("a", " a ")


def test_a_method_is_looked_for_in_any_case_of_ascii_letters() -> None:
    assert search(method="get,Größe").filters.methods == ("GET", "GRößE", "GET,GRößE")


def test_the_value_of_an_attribute_is_taken_whole() -> None:
    assert search(**{"attr.x.y": " a, b "}).filters.attributes == (("x.y", (" a, b ",)),)


def test_pages_of_lines_may_be_longer() -> None:
    assert search(format="ndjson", limit="10000").limit == 10_000
    assert "from 1 to 10000" in refusal(("format", "ndjson"), ("limit", "10001")).message


def test_a_cursor_goes_on_in_another_format_and_from_an_offset() -> None:
    cursor = query.cursor_after(search(q="x", offset="5"), NOW, "id")
    assert search(q="x", format="ndjson", cursor=cursor).after == (NOW, "id")


def test_severities_are_taken_in_any_case() -> None:
    assert search(severity="ERROR,Warning").filters.columns == (("severity", ("error", "warning")),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("GET /api/v1_x", ("get", "api", "v1", "x")),
        ("user_id=42 user", ("user", "id", "42")),
        ("Größe ÄNDERN €5", ("Größe", "ÄNDERN", "€5")),
        ("\u212a K k", ("\u212a", "k")),
        ("a\tb\x00c", ("a", "b", "c")),
    ],
)
def test_words_are_cut_as_the_engine_cuts_them(text: str, words: tuple[str, ...]) -> None:
    assert words_of(text) == words


def test_how_a_word_is_looked_for_is_decided_by_what_was_sent_not_by_its_lower_case() -> None:
    where, params = query.where_of(search(q="Kelvin \u212aelvin ÄNDERN ΟΔΟΣ"))
    looked_for = [
        ("lower(message)", "kelvin"),
        ("lowerUTF8(message)", "kelvin"),
        ("lowerUTF8(message)", "ändern"),
        ("replaceAll(lowerUTF8(message), 'ς', 'σ')", "οδοσ"),
    ]
    for name, (text, word) in zip(("word", "word_2", "word_3", "word_4"), looked_for, strict=True):
        assert f"hasAllTokens({text}, [{{{name}:String}}])" in where
        assert params[name] == word


def test_no_text_of_a_caller_becomes_sql() -> None:
    evil = "x' OR 1=1 --"
    found = search(
        service=evil, source=evil, event_id=evil, user_id=evil, endpoint=evil, method=evil, tags=evil, host=evil,
        q="evil words /evil+/ evil:evil*", start_time="-1h", **{f"attr.{evil}": evil},
    )  # fmt: skip
    for statement in (
        query.whole_of(found, COLUMNS),
        query.span_of(found, 220),
        query.page_of(found, COLUMNS, Span(0, NOW, 5)),
        query.count_of(found),
    ):
        assert "OR 1=1" not in statement.sql
        assert "evil" not in statement.sql
        assert statement.params["service"] == [evil]


def test_every_statement_names_the_tenant_and_a_window() -> None:
    found = search()
    statements = (
        query.whole_of(found, COLUMNS),
        query.span_of(found, 220),
        query.page_of(found, COLUMNS, Span(0, NOW, 5)),
        query.count_of(found),
        summary.events_of(found),
    )
    for statement in statements:
        assert "tenant_id = {tenant:String}" in statement.sql
        assert "timestamp >= fromUnixTimestamp64Micro({start:Int64}, 'UTC')" in statement.sql
        assert "timestamp <= fromUnixTimestamp64Micro({end:Int64}, 'UTC')" in statement.sql
        assert statement.params["tenant"] == TENANT
        assert statement.params["start"] < statement.params["end"]


def test_what_is_shown_is_read_with_final() -> None:
    page, whole = query.page_of(search(), COLUMNS, Span(0, NOW, 5)), query.whole_of(search(), COLUMNS)
    for statement in (page, whole, query.count_of(search())):
        assert "FROM events FINAL" in statement.sql


def test_a_span_narrows_the_window_and_never_widens_it() -> None:
    found = search(start_time="-2h", end_time="-1h")
    narrow = query.page_of(found, COLUMNS, Span(NOW - 2 * HOUR + 5, NOW, 5)).params
    assert (narrow["start"], narrow["end"]) == (NOW - 2 * HOUR + 5, NOW - HOUR)


def test_the_next_page_starts_after_the_last_event_shown() -> None:
    first = search(q="x", limit="10")
    cursor = query.cursor_after(first, NOW - HOUR, "id-7")
    second = search(q="x", limit="20", cursor=cursor)
    assert second.after == (NOW - HOUR, "id-7")
    assert "external_id < {after_id:String}" in query.page_of(second, COLUMNS, Span(0, NOW, 5)).sql
    assert "after_id" not in query.count_of(second).params


def test_a_cursor_keeps_the_window_of_its_first_page() -> None:
    first = search(start_time="-15m")
    later = search(start_time="-15m", cursor=query.cursor_after(first, NOW - 5, "id"), now_us=NOW + HOUR)
    assert (later.start_us, later.end_us) == (first.start_us, first.end_us)


def test_now_in_a_query_is_that_of_the_first_page() -> None:
    q = "timestamp:>now-1h"
    first = search(q=q)
    later = search(q=q, cursor=query.cursor_after(first, NOW - 5, "id"), now_us=NOW + HOUR)
    assert query.where_of(later)[1]["q_bound"] == query.where_of(first)[1]["q_bound"] == NOW - HOUR


def test_a_cursor_of_before_it_carried_the_clock_still_serves() -> None:
    first = search(q="x")
    raw = msgspec.msgpack.encode((1, first.start_us, first.end_us, NOW - 5, "id", first.check))
    assert search(q="x", cursor=base64.urlsafe_b64encode(raw).decode()).after == (NOW - 5, "id")


def test_ascending_pages_go_the_other_way() -> None:
    first = search(order="asc")
    second = search(order="asc", cursor=query.cursor_after(first, NOW, "id"))
    for statement in (query.page_of(second, COLUMNS, Span(0, NOW, 5)), query.whole_of(second, COLUMNS)):
        assert "ORDER BY timestamp ASC, external_id ASC" in statement.sql
        assert "external_id > {after_id:String}" in statement.sql


@pytest.mark.parametrize("other", [{"tenant_id": "tenant-b"}, {"q": "y"}, {"q": "x", "order": "asc"}, {}])
def test_a_cursor_serves_its_own_tenant_and_query_only(other: dict[str, str]) -> None:
    cursor = query.cursor_after(search(q="x"), NOW, "id")
    values = {"q": "x", **other} if "tenant_id" in other else other
    with pytest.raises(Invalid, match="cursor: belongs to another query"):
        search(**values, cursor=cursor)


@pytest.mark.parametrize("times", [(-1, 0, 0), (0, 0, 1 << 63), (0, MAX_US + 1, 0)])
def test_a_forged_cursor_with_impossible_times_is_refused(times: tuple[int, int, int]) -> None:
    raw = msgspec.msgpack.encode((1, *times, "id", search().check))
    with pytest.raises(Invalid, match="cursor: is not a cursor"):
        search(cursor=base64.urlsafe_b64encode(raw).decode())
