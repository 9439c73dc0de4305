import asyncio
from collections.abc import Sequence

import pytest

from collector.errors import BadRequest, CollectorError, QueueFull, TooLarge
from collector.ingest import intake
from collector.ingest.intake import Intake


class Arriving:
    """A body of which more may come."""

    def is_eof(self) -> bool:
        return False

    def exception(self) -> BaseException | None:
        return None

    def read_nowait(self) -> bytes:
        raise AssertionError("it may not be here yet")


class Here(Arriving):
    """A body that is here whole."""

    def __init__(self, body: bytes, error: BaseException | None = None) -> None:
        self._body = body
        self._error = error

    def is_eof(self) -> bool:
        return True

    def exception(self) -> BaseException | None:
        return self._error

    def read_nowait(self) -> bytes:
        body, self._body = self._body, b""
        return body

    async def readany(self) -> bytes:
        raise self._error or AssertionError("there is nothing to wait for")


class Chunks(Arriving):
    """A body that arrives in pieces; remembers how many were read."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)
        self.read = 0

    async def readany(self) -> bytes:
        self.read += 1
        return self._chunks.pop(0) if self._chunks else b""


class Silent(Arriving):
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


def test_a_body_that_is_here_is_not_waited_for() -> None:
    assert asyncio.run(taken(an_intake(), Here(b"here"))) == b"here"
    with pytest.raises(BadRequest, match="ended before its end"):
        asyncio.run(taken(an_intake(), Here(b"he", ConnectionResetError())))


class Gate(Arriving):
    """A body whose only piece comes when the test says so."""

    def __init__(self, size: int) -> None:
        self.come = asyncio.Event()
        self._chunks = [b"x" * size]

    async def readany(self) -> bytes:
        await self.come.wait()
        return self._chunks.pop(0) if self._chunks else b""


def test_a_body_for_which_its_tenant_has_no_room_waits_unread_and_in_turn() -> None:
    async def run() -> None:
        door = an_intake()  # half of 100 for a tenant, a body counts twice
        streams = [Gate(size) for size in (20, 10, 5, 5)]
        done: list[int] = []

        async def one(number: int, stream: Gate) -> None:
            size = (20, 10, 5, 5)[number]
            async with door.body(stream, announced=size, limit=80, tenant_id="a") as body:
                assert len(body) == size
                done.append(number)

        tasks = [asyncio.create_task(one(number, stream)) for number, stream in enumerate(streams)]
        for stream in streams[1:]:
            stream.come.set()
        other = Chunks(b"y" * 20)
        async with door.body(other, announced=20, limit=80, tenant_id="b"):
            assert done == []  # 20 twice is held, 10 twice is too much, and those behind do not overtake it
        streams[0].come.set()
        await asyncio.gather(*tasks)
        assert done == [0, 1, 2, 3]

    asyncio.run(run())


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_who_goes_away_at_the_door_leaves_it_to_the_next(gone: int) -> None:
    async def run() -> None:
        door = an_intake()
        streams = [Gate(25) for _ in range(3)]
        tasks = [asyncio.create_task(taken(door, stream, announced=25)) for stream in streams]
        await asyncio.sleep(0)
        tasks[gone].cancel()
        await asyncio.sleep(0)
        for stream in streams:
            stream.come.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, bytes) for result in results] == [number != gone for number in range(3)]
        assert await taken(door, Chunks(b"x" * 25), announced=25) == b"x" * 25

    asyncio.run(run())


def test_who_waits_at_the_door_for_too_long_is_sent_away_and_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "PATIENCE_S", 0.01)

    async def run() -> None:
        door = an_intake()
        first, second = Gate(25), Chunks(b"z" * 25)
        held = asyncio.create_task(taken(door, first, announced=25))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await taken(door, second, announced=25)
        assert second.read == 0
        first.come.set()
        assert len(await held) == 25
        assert await taken(door, second, announced=25) == b"z" * 25

    asyncio.run(run())
