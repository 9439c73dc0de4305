"""Queries against the real engine, compared with the plainest way to do it: one store, events with copies, deleted ones, parts
with the word index and without."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.ingest.moments import show_moment
from collector.search import query
from collector.store.schema import WORD_INDEX
from collector.store.store import Store
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home
from tests.support.records import NOW_NS

pytestmark = pytest.mark.engine

NOW = NOW_NS // 1000
MINUTE = 60_000_000
FILE_ID = "0123456789abcdef-00000000{:04x}-00000000"


class Row(NamedTuple):
    external_id: str
    timestamp: int = NOW
    title: str = ""
    message: str = ""
    severity: str = "info"
    service: str = "shop"
    method: str = ""
    user_id: str = ""
    agent: str = ""
    tags: tuple[str, ...] = ()
    status_code: int = 0
    zero_metrics: tuple[str, ...] = ()
    attributes: dict[str, str] = {}
    version: int = 10
    is_deleted: int = 0


MESSAGES = (
    "disk full on node", "Disk is FULL", "full disk", "disk", "disk -- full!", "disk: 97% full", "d-sk dusk desk",
    "GET /api/v1/items", "GET /api/v2/items?disk=1", "größe ändern", "GRÖSSE Ändern disk", "5 \u212a disk", "ΟΔΟΣ full",
    "οδος.", "", "disks diskette", "a.disk.b", "it's 100%", "line one\nline two disk", "timeout after 30s", "Timeout",
    "x" * 50 + " disk",
)  # fmt: skip
TITLES = ("", "", "disk", "full report", "Timeout of disk", "GRÖßE")


def rows() -> list[Row]:
    """Every message, under titles and values that go round at different speeds."""
    found = []
    for n, message in enumerate(MESSAGES * 4):
        attributes = {"pod": f"web-{n % 5}", "ms": ("5", "50", "500", "1e3", "fast", "", "-7", "nan")[n % 8]}
        if n % 3 == 0:
            attributes = {"user_id": f"u{n % 4}", "status": str(200 + n % 4 * 100), "a=b": "c", "k8s.pod": "Web One"}
        if n % 7 == 0:
            attributes = {"a": "b=c", "host.name": "node-1"}
        found.append(
            Row(
                FILE_ID.format(n) if n % 2 else f"event {n}",
                NOW - n * MINUTE,
                TITLES[n % len(TITLES)],
                message,
                ("debug", "info", "warning", "error", "critical")[n % 5],
                ("shop", "Shop", "stock")[n % 3],
                ("", "GET", "get")[n % 3],
                ("", f"u{n % 5}")[n % 2],
                ("", "node-1", "node-2")[n % 3],
                ((), ("web",), ("web", "eu west"), ("eu",))[n % 4],
                (0, 0, 200, 404, 503)[n % 5],
                ("status_code",) if n % 5 == 1 else (),
                attributes,
            )
        )
    return found


ROWS = rows()
WORD = "[0-9A-Za-z\x80-\U0010ffff]"


def words(text: str, asked: str) -> list[str]:
    """Of a text, in the case in which ``asked`` is looked for."""
    fold: Callable[[str], str] = ascii_lower if asked.isascii() else all_lower
    return [fold(word) for word in re.findall(f"{WORD}+", text)]


def ascii_lower(text: str) -> str:
    return re.sub("[A-Z]", lambda found: found[0].lower(), text)


def all_lower(text: str) -> str:
    return text.lower().replace("ς", "σ")


class Asked(NamedTuple):
    text: str
    holds: Callable[[Row], bool]


def texts(row: Row, field: str) -> Iterable[str]:
    return (row.title, row.message) if not field else (getattr(row, field),)


def of_word(word: str, field: str = "") -> Asked:
    fold = ascii_lower if word.isascii() else all_lower
    prefix = f"{field}:" if field else ""
    return Asked(f"{prefix}{word}", lambda row: any(fold(word) in words(text, word) for text in texts(row, field)))


def of_phrase(first: str, second: str, field: str = "") -> Asked:
    asked = first + second
    fold = ascii_lower if asked.isascii() else all_lower
    pair = [fold(first), fold(second)]

    def holds(row: Row) -> bool:
        for text in texts(row, field):
            found = words(text, asked)
            if any(found[n : n + 2] == pair for n in range(len(found))):
                return True
        return False

    return Asked(f'{field}:"{first} {second}"' if field else f'"{first} {second}"', holds)


def of_wildcard(pattern: str, field: str = "") -> Asked:
    """``*`` at an end: the word goes on; in between: anything but blanks."""
    inner = pattern.strip("*")
    body = "".join({"*": r"\S*", "?": r"\S"}.get(char, re.escape(char)) for char in inner)
    left = f"(?<!{WORD})" if pattern[0] != "*" and re.match(rf"\?|{WORD}", inner) else ""
    right = f"(?!{WORD})" if pattern[-1] != "*" and re.match(rf"\?|{WORD}", inner[-1]) else ""
    expression = re.compile(f"{left}{body.lower()}{right}".replace(r"\s", r"[^ \t\n\f\r]"))
    prefix = f"{field}:" if field else ""
    return Asked(f"{prefix}{pattern}", lambda row: any(expression.search(ascii_lower(text)) for text in texts(row, field)))


def of_regex(pattern: str) -> Asked:
    expression = re.compile(pattern, re.DOTALL)
    return Asked(
        f"/{pattern}/",
        lambda row: any(expression.search(text) for text in (row.message, row.title) if text or text is row.message),
    )


def of_attribute(name: str, value: str, text: str = "") -> Asked:
    return Asked(f"{text or name}:{value}", lambda row: row.attributes.get(name) == value)


def number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def between(low: int, high: int, name: str, of: Callable[[Row], float | None]) -> Asked:
    def holds(row: Row) -> bool:
        found = of(row)
        return found is not None and low <= found < high

    return Asked(f"{name}:[{low} TO {high}}}", holds)


def status(row: Row, test: Callable[[float], bool], name: str) -> bool:
    """The column where it was said, or the attribute of that name."""
    of_attribute = number(row.attributes.get(name))
    said = row.status_code or "status_code" in row.zero_metrics
    return bool((said and test(row.status_code)) or (of_attribute is not None and test(of_attribute)))


RANKS = ("debug", "info", "warning", "error", "critical")
SHOWN = show_moment(NOW - 30 * MINUTE)
ASKED = (
    *(of_word(word, field) for word in ("disk", "FULL", "größe", "ändern", "ΟΔΟΣ", "k", "\u212a", "timeout", "items", "nothing")
      for field in ("", "title", "message")),
    *(of_phrase(*pair, field)
      for pair in (("disk", "full"), ("Full", "disk"), ("one", "line"), ("GRÖSSE", "ändern"), ("api", "v1"))
      for field in ("", "title", "message")),
    *(of_wildcard(pattern, field)
      for pattern in ("dis*", "*isk", "*sk*", "d?sk", "time*t", "/api/*/items", "di*k*", "?isk", "item?", "9*%", "t*o*t")
      for field in ("", "message")),
    of_regex("d.sk"), of_regex("^disk"), of_regex("(?i)timeout|größe"), of_regex("^$"), of_regex("one\nline"),
    of_regex(r"\d+%"),
    Asked("service:shop", lambda row: row.service == "shop"),
    Asked("service:(Shop OR stock)", lambda row: row.service in ("Shop", "stock")),
    Asked("service:s*", lambda row: row.service.startswith("s")),
    Asked("service:/^[Ss]h/", lambda row: row.service.lower().startswith("sh")),
    Asked("service:>=shop", lambda row: row.service >= "shop"),
    Asked("method:Get", lambda row: row.method.upper() == "GET"),
    Asked("method:g*", lambda row: row.method.upper() == "GET"),
    Asked("_exists_:method", lambda row: row.method != ""),
    Asked("title:*", lambda row: row.title != ""),
    Asked("level:>=warning", lambda row: RANKS.index(row.severity) >= 2),
    Asked("severity:{debug TO error}", lambda row: 0 < RANKS.index(row.severity) < 3),
    Asked("level:Warn", lambda row: row.severity == "warning"),
    Asked("status:>=400", lambda row: status(row, lambda found: found >= 400, "status")),
    Asked("status:<400", lambda row: status(row, lambda found: found < 400, "status")),
    Asked("status_code:0", lambda row: status(row, lambda found: found == 0, "status_code")),
    Asked("status:4xx", lambda row: status(row, lambda found: 400 <= found < 500, "status")),
    Asked("status:*", lambda row: status(row, lambda found: True, "status")),
    Asked("status:{-1 TO 1.5}", lambda row: status(row, lambda found: -1 < found < 1.5, "status")),
    Asked("tags:web", lambda row: "web" in row.tags),
    Asked('tags:"eu west"', lambda row: "eu west" in row.tags),
    Asked("tags:eu*", lambda row: any(tag.startswith("eu") for tag in row.tags)),
    Asked("tags:(web -eu*)", lambda row: "web" in row.tags and not any(tag.startswith("eu") for tag in row.tags)),
    Asked("tags:*", lambda row: bool(row.tags)),
    Asked("user_id:u1", lambda row: "u1" in (row.user_id, row.attributes.get("user_id"))),
    Asked("user_id:*", lambda row: bool(row.user_id or "user_id" in row.attributes)),
    Asked("user_id:[u1 TO u2]", lambda row: any("u1" <= u <= "u2" for u in (row.user_id, row.attributes.get("user_id", "")))),
    Asked("host:node-1", lambda row: "node-1" in (row.agent, row.attributes.get("host.name"), row.attributes.get("host"))),
    of_attribute("pod", "web-1"), of_attribute("a", "b=c"), of_attribute("a=b", "c", r"a\=b"), of_attribute("a", "c"),
    of_attribute("k8s.pod", "Web One")._replace(text='k8s.pod:"Web One"'),
    of_attribute("ms", "")._replace(text='ms:""'),
    Asked("pod:web-*", lambda row: row.attributes.get("pod", "").startswith("web-")),
    Asked("pod:/-[12]$/", lambda row: row.attributes.get("pod", "")[-2:] in ("-1", "-2")),
    Asked("_exists_:pod", lambda row: "pod" in row.attributes),
    Asked("ms:*", lambda row: "ms" in row.attributes),
    Asked("ms:>fast", lambda row: row.attributes.get("ms", "") > "fast"),
    between(5, 1000, "ms", lambda row: number(row.attributes.get("ms"))),
    between(-100, 6, "attr.ms", lambda row: number(row.attributes.get("ms"))),
    between(10, 40, "offset", lambda row: float(int(row.external_id[17:29], 16)) if row.external_id[:1] == "0" else None),
    Asked(f"timestamp:>={SHOWN}", lambda row: row.timestamp >= NOW - 30 * MINUTE),
    Asked(f"timestamp:<{SHOWN}", lambda row: row.timestamp < NOW - 30 * MINUTE),
    Asked("timestamp:[now-50m TO now-10m]", lambda row: NOW - 50 * MINUTE <= row.timestamp <= NOW - 10 * MINUTE),
    Asked('id:"event 4"', lambda row: row.external_id == "event 4"),
    Asked("*", lambda row: True),
)  # fmt: skip


def joined(asked: list[Asked], sign: str, holds: Callable[[Iterable[bool]], bool]) -> Asked:
    return Asked(f"({sign.join(one.text for one in asked)})", lambda row: holds(one.holds(row) for one in asked))


def opposite(asked: Asked, sign: str) -> Asked:
    return Asked(f"({sign}{asked.text})", lambda row: not asked.holds(row))


def grown(inner: st.SearchStrategy[Asked]) -> st.SearchStrategy[Asked]:
    several = st.lists(inner, min_size=2, max_size=4)
    return (
        st.builds(joined, several, st.sampled_from([" AND ", " ", " && "]), st.just(all))
        | st.builds(joined, several, st.sampled_from([" OR ", " || "]), st.just(any))
        | st.builds(opposite, inner, st.sampled_from(["NOT ", "-", "!"]))
    )


TREES = st.recursive(st.sampled_from(ASKED), grown, max_leaves=6)
COLUMNS = Row._fields


async def stored(store: Store, tenant_id: str) -> None:
    """The events, some of them twice, and some that were deleted; the first half with the index, the other without."""
    columns = ("tenant_id", "retention_days", *COLUMNS)

    async def insert(some: Iterable[Row]) -> None:
        await store.insert(
            "events", columns, [(tenant_id, 30, *(list(v) if isinstance(v, tuple) else v for v in row)) for row in some]
        )

    await insert(ROWS[: len(ROWS) // 2])
    await insert(row._replace(version=9) for row in ROWS[5:25])
    await store.command(f"ALTER TABLE events MATERIALIZE INDEX {WORD_INDEX} SETTINGS mutations_sync = 2")
    await insert(ROWS[len(ROWS) // 2 :])
    gone = [row._replace(external_id=f"gone {n}", message="disk full", title="disk") for n, row in enumerate(ROWS[:5])]
    await insert(gone)
    await insert(row._replace(is_deleted=1, version=99) for row in gone)


async def found(store: Store, tenant_id: str, q: str, **more: Any) -> set[str]:
    search = query.parse([("q", q)], tenant_id=tenant_id, retention_days=30, now_us=NOW)
    where, params = query.where_of(search)
    sql = f"SELECT external_id FROM events FINAL WHERE {where}"
    return {row[0] for row in await store.query(sql, params, settings=more)}


def expected(asked: Asked) -> set[str]:
    return {row.external_id for row in ROWS if asked.holds(row)}


def test_most_of_these_tests_hold_for_some_events_and_not_for_others() -> None:
    nothing = [asked.text for asked in ASKED if not 0 < len(expected(asked)) < len(ROWS)]
    assert len(nothing) <= 20, nothing  # words that only another case, or another field, has


def test_every_test_finds_what_it_says_with_the_indexes_and_without(home: Home, owner: Tenant) -> None:
    async def run() -> None:
        async with home.store() as store:
            await stored(store, owner.tenant_id)
            for asked in ASKED:
                for one in (asked, opposite(asked, "NOT ")):
                    assert await found(store, owner.tenant_id, one.text) == expected(one), one.text
                assert await found(store, owner.tenant_id, asked.text, use_skip_indexes="0") == expected(asked), asked.text

    asyncio.run(run())


def test_any_tree_finds_what_the_plainest_reading_of_it_finds(embedded: Home, owner: Tenant) -> None:
    async def prepare() -> None:
        async with embedded.store() as store:
            await stored(store, owner.tenant_id)

    async def compared(asked: Asked) -> None:
        async with embedded.store() as store:
            assert await found(store, owner.tenant_id, asked.text) == expected(asked), asked.text

    @settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(TREES)
    def property_holds(asked: Asked) -> None:
        asyncio.run(compared(asked))

    asyncio.run(prepare())
    property_holds()


WORDS_HERE, TITLES_HERE = "message_words", "title_words"


def test_what_has_an_index_uses_it(embedded: Home, owner: Tenant) -> None:
    wanted = {
        "disk": {WORDS_HERE, TITLES_HERE},
        "disk OR timeout": {WORDS_HERE, TITLES_HERE},
        '"disk full"': {WORDS_HERE, TITLES_HERE},
        "/api/*/items": {WORDS_HERE, TITLES_HERE},
        "(disk full) OR (timeout after)": {WORDS_HERE, TITLES_HERE},
        "message:disk": {WORDS_HERE},
        "pod:web-1": {"attribute_items"},
        "id:x": {"id_bloom"},
        "dis* /disk/ service:shop": set(),
    }

    async def run() -> None:
        async with embedded.store() as store:
            await stored(store, owner.tenant_id)
            await store.command(f"ALTER TABLE events MATERIALIZE INDEX {WORD_INDEX} SETTINGS mutations_sync = 2")
            used = {}
            for q in wanted:
                where, params = query.where_of(
                    query.parse([("q", q)], tenant_id=owner.tenant_id, retention_days=30, now_us=NOW)
                )
                plan = await store.query(f"EXPLAIN indexes = 1 SELECT external_id FROM events FINAL WHERE {where}", params)
                names = {line.split(":", 1)[1].strip() for (line,) in plan if line.strip().startswith("Name:")}
                used[q] = names - {"timestamp_minmax", "<Combined skip indexes>"}
            assert used == wanted

    asyncio.run(run())
