"""Words of a search against the real engine: odd characters, and the same events with the word index and without it."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.search import query
from collector.search.query import Search, Statement
from collector.store.schema import TITLE_INDEX, WORD_INDEX
from collector.store.store import Store
from collector.tenants.tenants import Tenant
from tests.integration.conftest import Home
from tests.support.records import NOW_NS

pytestmark = pytest.mark.engine

NOW = NOW_NS // 1000
TEXTS = (
    "kelvin 5 K", "KELVIN 5 k", "5 \u212a", "\u212aelvin",  # the Kelvin sign, whose lower case is an ASCII k
    "5 \u212b", "5 å", "5 Å",  # the Ångström sign
    "İstanbul", "istanbul", "i\u0307stanbul", "ISTANBUL", "ıstanbul",
    "Straße", "STRASSE", "STRAẞE", "strasse",
    "café", "CAFÉ", "cafe\u0301", "CAFE\u0301", "cafe", "\u0301", "a\u0301\u0302b",
    "ΟΔΟΣ", "οδος", "οδοσ", "ΟΔΟΣ.Β", "Σ", "ς'σ",
    "😀", "a😀b", "👩\u200d💻 wrote", "ａｂｃ", "ＡＢＣ", "abc", "①", "Ⅷ", "ⅷ", "ﬀ", "Ǆ", "ǆ", "ﷺ", "日本語 ログ", "日本語",
    "a\x00b", "\x00", "a b", "ab", "a\tb\nc", "a\u00a0b", "a\u2028b", "a\x80b", "\ufffd",
    "it's", "its", "'; DROP TABLE events; --", '"quoted"', "quoted", "100%", "100",
    "a%b", "a_b", "%", "_", "a\\b", "\\", "\\n", "n",
    "{words:Array(String)}", "`x`", "x", "-- x", "/* x */", "",
)  # fmt: skip
_WORD = re.compile(r"[0-9A-Za-z\x80-\U0010ffff]+")
SYNTAX = ("/* x */",)
"""A regular expression, as it stands."""
ALPHABET = "aAkKiI\u212aİıßẞéÉ\u0301σςΣΒ😀ａＡǅ 0'\"%_\\.\x00\u200d\n"


def lowered(word: str) -> str:
    return word.lower().replace("ς", "σ")


def matches(asked: str, text: str) -> bool:
    """What a search means, in the plainest way."""
    there = _WORD.findall(text)
    ascii_there = {re.sub("[A-Z]", lambda found: found[0].lower(), word) for word in there}
    all_there = {lowered(word) for word in there}
    return all(word.lower() in ascii_there if word.isascii() else lowered(word) in all_there for word in _WORD.findall(asked))


def as_text(q: str) -> str:
    """With a backslash before every sign: none of them is syntax then."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", q)


def search(tenant_id: str, q: str) -> Search:
    return query.parse([("q", q)], tenant_id=tenant_id, retention_days=30, now_us=NOW + 1000)


async def stored(store: Store, tenant_id: str, texts: Sequence[tuple[str, str]]) -> None:
    """Events of these titles and messages, named by their places."""
    columns = ("tenant_id", "external_id", "timestamp", "title", "message", "retention_days")
    rows = [(tenant_id, f"{n}", NOW, title, message, 30) for n, (title, message) in enumerate(texts)]
    await store.insert("events", columns, rows)


async def found(store: Store, statement: Statement, **more: Any) -> set[int]:
    return {int(row[0]) for row in await store.query(statement.sql, statement.params, settings=more)}


def asking(tenant_id: str, q: str) -> Statement:
    where, params = query.where_of(search(tenant_id, q))
    return Statement(f"SELECT external_id FROM events FINAL WHERE {where}", params)


def test_every_odd_text_is_found_by_its_words_with_the_index_and_without(embedded: Home, owner: Tenant) -> None:
    titled = f"{owner.tenant_id}-titled"

    async def differing(store: Store, **more: Any) -> list[tuple[str, str]]:
        wrong = []
        for q in filter(_WORD.search, TEXTS):
            for tenant_id in (owner.tenant_id, titled):
                got = await found(store, asking(tenant_id, as_text(q) if q in SYNTAX else q), **more)
                wrong += [(q, text) for n, text in enumerate(TEXTS) if matches(q, text) != (n in got)]
        return wrong

    async def run() -> None:
        async with embedded.store() as store:
            await stored(store, owner.tenant_id, [("", text) for text in TEXTS])
            await stored(store, titled, [(text, "") for text in TEXTS])
            assert await differing(store) == []
            for index in (WORD_INDEX, TITLE_INDEX):
                await store.command(f"ALTER TABLE events MATERIALIZE INDEX {index} SETTINGS mutations_sync = 2")
            statement = asking(owner.tenant_id, "kelvin")
            plan = await store.query(f"EXPLAIN indexes = 1 {statement.sql}", statement.params)
            assert all(any(index in line for (line,) in plan) for index in (WORD_INDEX, TITLE_INDEX)), plan
            assert await differing(store) == []
            assert await differing(store, use_skip_indexes="0") == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("q", "texts"),
    [
        ("\u212a", {"kelvin 5 K", "KELVIN 5 k", "5 \u212a"}),
        ("k", {"kelvin 5 K", "KELVIN 5 k"}),
        ("\u212aELVIN", {"kelvin 5 K", "KELVIN 5 k", "\u212aelvin"}),
        ("İSTANBUL", {"İstanbul", "i\u0307stanbul"}),
        ("straße", {"Straße", "STRAẞE"}),
        ("Café", {"café", "CAFÉ"}),
        ("cafe\u0301", {"cafe\u0301", "CAFE\u0301"}),
        ("οδος", {"ΟΔΟΣ", "οδος", "οδοσ", "ΟΔΟΣ.Β"}),
        ("Ａｂｃ", {"ａｂｃ", "ＡＢＣ"}),
        ("100%", {"100%", "100"}),
    ],
)
def test_what_a_caller_may_expect_of_odd_words(q: str, texts: set[str]) -> None:
    assert {text for text in TEXTS if matches(q, text)} == texts


def test_any_text_is_found_by_the_words_of_another(embedded: Home, owner: Tenant) -> None:
    words = st.text(ALPHABET, max_size=8) | st.sampled_from(TEXTS)
    numbers = itertools.count()

    async def compared(texts: list[tuple[str, str]], asked: list[str]) -> None:
        tenant_id = f"{owner.tenant_id}-{next(numbers)}"
        async with embedded.store() as store:
            await stored(store, tenant_id, texts)
            for q in filter(_WORD.search, asked):
                expected = {n for n, text in enumerate(texts) if matches(q, " ".join(text))}
                assert await found(store, asking(tenant_id, as_text(q))) == expected, q

    @settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(words, words), min_size=1, max_size=30), st.lists(words, max_size=3))
    def property_holds(texts: list[tuple[str, str]], asked: list[str]) -> None:
        asyncio.run(compared(texts, asked + [part for text in texts[:3] for part in text]))

    property_holds()
