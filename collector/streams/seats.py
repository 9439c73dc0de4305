"""How many streams there may be at once in this process: in all, and of one tenant. They last, so they are not requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from collector.errors import TooManyStreams

RETRY_AFTER_S = 5.0


class Seats:
    """``most`` in all; one tenant may have half of them, so that another always finds one.

    Args:
        what: the word for the streams, in messages.
        setting: the name of the setting behind ``most``.
    """

    def __init__(self, what: str, setting: str, most: int) -> None:
        self._what = what
        self._setting = setting
        self._most = most
        self._of_one = -(-most // 2)
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taking(self, tenant_id: str) -> Iterator[None]:
        """One more for the tenant. Raises TooManyStreams."""
        if self._taken[tenant_id] >= self._of_one:
            raise TooManyStreams(
                f"{self._of_one} {self._what} of this tenant are open, which is as many as it may have; end one first",
                retry_after_s=RETRY_AFTER_S,
            )
        if self._taken.total() >= self._most:
            raise TooManyStreams(
                f"{self._most} {self._what} are open, which is as many as there may be ({self._setting}); try again",
                retry_after_s=RETRY_AFTER_S,
            )
        self._taken[tenant_id] += 1
        try:
            yield
        finally:
            self._taken[tenant_id] -= 1
            if not self._taken[tenant_id]:
                del self._taken[tenant_id]
