"""Which of several collectors to ask, and how fast. Pure: told times, says what to do.

- The first URL is preferred. One that fails is left alone for a while, longer each time; the next good one is asked instead.
- When the while is over one request tries it: only when that works do the others return to it.
- When none is good, the one whose turn comes first is asked: sending never stops because of what is noted here.
"""

from __future__ import annotations

from collections.abc import Sequence

FIRST_AWAY_S = 5.0
LONGEST_AWAY_S = 60.0
STRIKES = 3
"""Answers in a row that may be the fault of what was sent: as many count as a fault of the collector."""


class Endpoint:
    """One collector."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.away_until_s = float("-inf")
        self.failures = 0
        self.strikes = 0


class Endpoints:
    """All of them, in the order of preference."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._all = [Endpoint(url) for url in urls]

    def pick(self, now_s: float) -> Endpoint:
        """The one to ask. One that failed before is on trial: until that is decided, others ask the next."""
        for endpoint in self._all:
            if endpoint.away_until_s <= now_s:
                if endpoint.failures:
                    endpoint.away_until_s = now_s + FIRST_AWAY_S
                return endpoint
        return min(self._all, key=lambda endpoint: endpoint.away_until_s)

    def works(self, endpoint: Endpoint) -> bool:
        """It answered as a collector does. Returns whether that is news."""
        news = endpoint.failures > 0
        endpoint.failures = endpoint.strikes = 0
        endpoint.away_until_s = float("-inf")
        return news

    def failed(self, endpoint: Endpoint, now_s: float, *, suspicious: bool) -> bool:
        """It did not; ``suspicious``: that may be the fault of what was sent. Returns whether another is worth asking now."""
        endpoint.strikes += 1
        if suspicious and endpoint.strikes < STRIKES and not endpoint.failures:
            return False
        endpoint.failures += 1
        endpoint.away_until_s = now_s + min(LONGEST_AWAY_S, FIRST_AWAY_S * 2 ** min(endpoint.failures - 1, 8))
        return any(other.away_until_s <= now_s for other in self._all)


class Bandwidth:
    """A limit in bytes a second; a second's worth may leave at once."""

    def __init__(self, bytes_per_s: int) -> None:
        self._rate = bytes_per_s
        self._free_at_s = float("-inf")

    def take(self, count: int, now_s: float) -> float:
        """Seconds to wait before ``count`` bytes are sent. They are taken now: who asks later waits longer."""
        if not self._rate:
            return 0.0
        start_s = max(self._free_at_s, now_s - 1.0)
        self._free_at_s = start_s + count / self._rate
        return max(0.0, start_s - now_s)
