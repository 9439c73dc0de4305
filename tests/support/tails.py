"""A reader of Server-Sent Events on a real socket, in a thread of its own."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlencode

from tests.support.wait import until

TAIL = "/api/v1/ingestion/events/tail"
TIMEOUT_S = 60.0


class Told(NamedTuple):
    """One event of a stream."""

    kind: str
    cursor: str
    data: Any


class TailReader(threading.Thread):
    """Reads a tail until it ends, or until it is told to leave. Made, it has read ``open``."""

    opened: ClassVar[list[TailReader]] = []

    @classmethod
    def all_leave(cls) -> None:
        """At the end of a test, also one that failed."""
        while cls.opened:
            cls.opened.pop().leave()

    def __init__(self, port: int, key: str, *, headers: dict[str, str] | None = None, **query: object) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        path = f"{TAIL}?{urlencode(query)}" if query else TAIL
        self._connection.request("GET", path, headers={"X-API-Key": key, **(headers or {})})
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.told: list[Told] = []
        self.opened.append(self)
        self.comments = 0
        self.cursor = ""
        """The last ``id``, as a browser keeps it."""
        assert self.status == 200, self._answer.read()
        while not self.told:
            self._read()

    @property
    def events(self) -> list[Any]:
        return [one.data for one in list(self.told) if one.kind == "message"]

    @property
    def ids(self) -> list[str]:
        return [event["event_id"] for event in self.events]

    def of(self, kind: str) -> list[Told]:
        return [one for one in list(self.told) if one.kind == kind]

    def reading(self) -> TailReader:
        self.start()
        return self

    def wait_for(self, count: int) -> list[str]:
        """The IDs of the events, once there are so many."""
        until(lambda: len(self.ids) >= count, f"{count} events are told", told=lambda: f"{len(self.ids)} are there")
        return self.ids

    def leave(self) -> None:
        """As a reader that is killed."""
        if self._connection.sock is not None:
            self._connection.sock.shutdown(2)
        self._connection.close()
        if self.is_alive():
            self.join(TIMEOUT_S)
        self._answer.close()

    def run(self) -> None:
        try:
            while self._read():
                pass
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            pass  # it was left, or cut off

    def _read(self) -> bool:
        """One event or comment."""
        kind, cursor, data = "message", "", []
        while (line := self._answer.readline()) not in (b"\n", b""):
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if line.startswith(b":"):
                self.comments += 1
            elif name == "event":
                kind = value
            elif name == "id":
                cursor = value
            elif name == "data":
                data.append(value)
        if not line:
            return False
        self.cursor = cursor or self.cursor
        if data:
            self.told.append(Told(kind, cursor, json.loads("\n".join(data))))
        return True
