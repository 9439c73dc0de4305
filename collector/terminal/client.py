"""HTTP to a collector, as a person's command needs it: answers of JSON, lines of an export, events of a tail.

Everything that goes wrong is one of three: the collector says no (`Refused`), nobody answers (`Away`), an answer broke off
(`BrokenOff`). What the collector says is passed on whole: of a query that is wrong it says where.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from agent.release import version

TIMEOUT_S = 60.0
"""Without a byte; a tail has a heartbeat each 15 s."""
BASE = "/api/v1/ingestion/events"
_AWAY = (OSError, http.client.HTTPException, ssl.SSLError)
Pairs = Sequence[tuple[str, str]]


class Refused(Exception):
    """The collector will not do it."""


class Away(Exception):
    """There is no answer, or one that says to try again; ``retry_after_s``: when."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BrokenOff(Exception):
    """The answer ended before it was whole."""


class Told(NamedTuple):
    """An event of a stream."""

    kind: str
    cursor: str
    data: Any


class Client:
    """Raises Refused, Away and BrokenOff, in all it does."""

    def __init__(self, url: str, key: str, tls: ssl.SSLContext | None = None) -> None:
        self._url = url.rstrip("/")
        self._parts = urlsplit(self._url)
        self._key = key
        self._tls = tls or (ssl.create_default_context() if self._parts.scheme == "https" else None)

    def json(self, path: str, pairs: Pairs) -> Any:
        answer = self._asked(path, pairs)
        try:
            return json.loads(answer.read())
        except (*_AWAY, ValueError) as error:
            raise BrokenOff(f"{self._url}: the answer broke off ({_said(error)})") from error
        finally:
            answer.close()

    def lines(self, path: str, pairs: Pairs) -> Iterator[bytes]:
        """Whole lines without their ends, as they come."""
        answer = self._asked(path, pairs)
        rest = b""
        try:
            while data := answer.read1(1 << 16):
                *whole, rest = (rest + data).split(b"\n")
                yield from whole
        except _AWAY as error:
            raise BrokenOff(f"{self._url}: the answer broke off ({_said(error)})") from error
        finally:
            answer.close()
        if rest:
            yield rest

    def tail(self, pairs: Pairs) -> Iterator[Told]:
        """Until it ends."""
        kind, cursor, data = "message", "", b""
        for line in self.lines(f"{BASE}/tail", pairs):
            name, _, value = line.partition(b": ")
            if name == b"event":
                kind = value.decode()
            elif name == b"id":
                cursor = value.decode()
            elif name == b"data":
                data = value
            elif not line:
                yield Told(kind, cursor, json.loads(data) if data else None)
                kind, cursor, data = "message", "", b""

    def _asked(self, path: str, pairs: Pairs) -> http.client.HTTPResponse:
        try:
            connection = self._connection()
            connection.request("GET", f"{self._parts.path}{path}?{urlencode(pairs)}", headers=self._headers())
            answer = connection.getresponse()
            if answer.status == 200:
                return answer
            body = answer.read(1 << 20)
            connection.close()
        except _AWAY as error:
            raise Away(
                f"{self._url} does not answer ({_said(error)}); is this the collector's URL, and does it run?"
            ) from error
        message = _message(body) or f"{self._url} answered {answer.status}: no collector's answer; is this its URL?"
        if answer.status in (429, 502, 503, 504):
            raise Away(message, _seconds(answer.getheader("Retry-After")))
        raise Refused(message)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self._tls)

    def _headers(self) -> Mapping[str, str]:
        return {"X-API-Key": self._key, "User-Agent": f"pulsestream-search/{version()}"}


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdigit() else 0.0
