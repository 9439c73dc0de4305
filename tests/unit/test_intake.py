import asyncio
from collections.abc import Sequence

import pytest

from collector import intake
from collector.errors import BadRequest, CollectorError, QueueFull, TooLarge
from collector.intake import Intake


class Chunks:
    """A body that arrives in pieces; remembers how many were read."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)
        self.read = 0

    async def readany(self) -> bytes:
        self.read += 1
        return self._chunks.pop(0) if self._chunks else b""


class Silent:
    async def readany(self) -> bytes:
        await asyncio.Event().wait()
        return b""


def an_intake(total_bytes: int = 100, tenant_share: float = 0.5) -> Intake:
    return Intake(total_bytes=total_bytes, tenant_share=tenant_share, retry_after_s=1.0)


async def taken(door: Intake, stream: intake.Stream, *, announced: int | None = None, limit: int = 80) -> bytes:
    async with door.body(stream, announced=announced, limit=limit, tenant_id="a") as body:
        return body


def refused(kind: type[CollectorError], stream: intake.Stream, *, announced: int | None = None) -> str:
    with pytest.raises(kind) as caught:
        asyncio.run(taken(an_intake(), stream, announced=announced))
    return caught.value.message


def test_a_body_is_whole_however_it_arrives() -> None:
    for chunks in ((b"abc",), (b"a", b"b", b"c")):
        assert asyncio.run(taken(an_intake(), Chunks(*chunks))) == b"abc"


def test_a_body_announced_too_long_is_refused_unread() -> None:
    stream = Chunks(b"x")
    assert "80 bytes at most, 81 bytes are announced" in refused(TooLarge, stream, announced=81)
    assert stream.read == 0


def test_a_body_that_turns_out_too_long_is_refused_at_the_first_byte_too_many() -> None:
    stream = Chunks(b"x" * 80, b"x", b"never read")
    assert "80 bytes at most" in refused(TooLarge, stream)
    assert stream.read == 2


def test_an_empty_body_is_refused() -> None:
    assert "the body is empty" in refused(BadRequest, Chunks())


def test_a_body_that_stops_arriving_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "IDLE_S", 0.01)
    assert "stopped arriving" in refused(BadRequest, Silent())


def hold(bodies: Sequence[tuple[str, bytes]], then: tuple[str, bytes]) -> None:
    """Hold some bodies, then take one more."""

    async def run() -> None:
        door = an_intake()

        async def level(rest: Sequence[tuple[str, bytes]]) -> None:
            (tenant, chunk), *more = rest
            async with door.body(Chunks(chunk), announced=None, limit=1000, tenant_id=tenant):
                if more:
                    await level(more)

        await level([*bodies, then])

    asyncio.run(run())


def test_one_tenant_may_hold_its_share_only() -> None:
    with pytest.raises(QueueFull):
        hold([("a", b"x" * 40)], ("a", b"x" * 11))
    hold([("a", b"x" * 40)], ("b", b"x" * 11))


def test_all_together_may_hold_the_total_only() -> None:
    with pytest.raises(QueueFull):
        hold([("a", b"x" * 50), ("b", b"x" * 45)], ("c", b"x" * 6))


def test_a_body_that_is_alone_is_let_in_however_small_the_bound() -> None:
    hold([], ("a", b"x" * 500))


def test_what_was_held_is_given_back_also_after_an_error() -> None:
    async def run() -> None:
        door = an_intake()
        for _ in range(5):
            with pytest.raises(TooLarge):
                await taken(door, Chunks(b"x" * 40, b"x" * 41))
        async with door.body(Chunks(b"x" * 10), announced=None, limit=80, tenant_id="b"):
            assert await taken(door, Chunks(b"x" * 50)) == b"x" * 50

    asyncio.run(run())
