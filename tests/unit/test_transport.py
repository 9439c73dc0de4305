"""The way to the collectors, as far as no connection is needed: answers have a bound, and proxies an order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from agent.config import DIRECT
from agent.shipping import transport
from agent.shipping.endpoints import Endpoint
from agent.shipping.transport import NoReply, proxy_for


class Endless:
    """An answer that does not end soon."""

    def __init__(self) -> None:
        self.content = self
        self.given = 0

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        for _ in range(100):
            self.given += size
            yield bytes(size)


def test_of_an_answer_without_end_no_more_is_read_than_shows_that_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 300_000)
    answer = Endless()
    body = asyncio.run(transport._read(answer))  # type: ignore[arg-type]
    assert len(body) == answer.given
    assert 300_000 < len(body) <= 300_000 + (1 << 16)


@pytest.mark.parametrize(
    ("url", "wanted", "environment", "proxy"),
    [
        ("http://c.example:1/x", "", {}, None),
        ("http://c.example:1/x", "", {"http_proxy": "http://p:1", "https_proxy": "http://p:2"}, "http://p:1"),
        ("https://c.example/x", "", {"http_proxy": "http://p:1", "https_proxy": "http://p:2"}, "http://p:2"),
        ("http://c.example:1/x", "", {"http_proxy": "http://p:1", "no_proxy": "c.example"}, None),
        ("http://c.example:1/x", "", {"http_proxy": "http://p:1", "no_proxy": "c.example:1"}, None),
        ("http://c.example:1/x", "", {"http_proxy": "http://p:1", "no_proxy": "c.example:2"}, "http://p:1"),
        ("http://c.example:1/x", "http://q:9", {"http_proxy": "http://p:1", "no_proxy": "*"}, "http://q:9"),
        ("http://c.example:1/x", DIRECT, {"http_proxy": "http://p:1"}, None),
    ],
)
def test_the_proxy_is_that_of_the_configuration_else_of_the_environment(
    url: str, wanted: str, environment: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url, wanted) == proxy


def test_files_are_changed_when_others_are_there_and_not_when_they_are_gone(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    files = transport._Watched(str(one), "", str(other))
    assert not files.changed()
    (tmp_path / "new").write_text("3")
    (tmp_path / "new").rename(other)
    assert files.changed()
    assert not files.changed()
    one.unlink()
    assert not files.changed()
    one.write_text("4")
    assert files.changed(), "they are all there again"
    assert not transport._Watched("").changed()


@pytest.mark.parametrize(
    ("error", "reached"),
    [
        (aiohttp.ServerTimeoutError(), False),
        (aiohttp.ServerDisconnectedError(), True),
        (TimeoutError(), True),
        (OSError("x"), True),
    ],
)
def test_a_request_that_may_have_been_received_is_told_from_one_that_was_not(error: Exception, reached: bool) -> None:
    failed = NoReply(Endpoint("http://c/x"), error, "id")
    assert (failed.reached, failed.request_id) == (reached, "id")
    assert str(failed).startswith(f"http://c/x: {type(error).__name__}")
