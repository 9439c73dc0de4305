"""The workbench: one body at a time, tenants in turn, and everybody served in between."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import pytest

from collector.ingest.workbench import Workbench


def work(name: str, slices: int, done: list[str]) -> Generator[None, None, str]:
    for number in range(slices):
        done.append(f"{name}{number}")
        yield
    return name


def test_the_result_is_that_of_the_work() -> None:
    async def run() -> None:
        assert await Workbench().do("t", work("a", 3, [])) == "a"
        assert await Workbench().do("t", work("a", 0, [])) == "a"

    asyncio.run(run())


def test_one_work_is_done_at_a_time_and_others_run_in_between() -> None:
    async def run() -> None:
        bench, done = Workbench(), list[str]()
        seen: list[int] = []

        async def other() -> None:
            while len(done) < 6:
                seen.append(len(done))
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(bench.do("t", work("a", 3, done)))
            group.create_task(bench.do("u", work("b", 3, done)))
            group.create_task(other())
        assert done == ["a0", "a1", "a2", "b0", "b1", "b2"]
        assert set(seen) >= {2, 3, 4, 5}

    asyncio.run(run())


def test_tenants_take_turns() -> None:
    async def run() -> None:
        bench, done = Workbench(), list[str]()
        async with asyncio.TaskGroup() as group:
            for name in "abcd":
                group.create_task(bench.do("loud", work(name, 1, done)))
            group.create_task(bench.do("quiet", work("q", 1, done)))
            group.create_task(bench.do("quiet", work("r", 1, done)))
        assert done == ["a0", "b0", "q0", "c0", "r0", "d0"]

    asyncio.run(run())


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_caller_who_goes_away_leaves_the_place_to_the_next(gone: int) -> None:
    async def run() -> None:
        bench, done = Workbench(), list[str]()
        tasks = [asyncio.create_task(bench.do("t", work(name, 5, done))) for name in "abc"]
        await asyncio.sleep(0)
        assert done == ["a0"]
        tasks[gone].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [n == gone for n in range(3)]
        assert await bench.do("t", work("z", 1, done)) == "z"

    asyncio.run(run())


def test_a_caller_who_goes_away_as_his_turn_comes_passes_it_on() -> None:
    async def run() -> None:
        bench, done = Workbench(), list[str]()
        tasks = [asyncio.create_task(bench.do("t", work(name, 1, done))) for name in "abc"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert done == ["a0"]
        assert not tasks[1].done()
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [result for result in results if isinstance(result, str)] == ["a", "c"]
        assert await bench.do("t", work("z", 1, done)) == "z"

    asyncio.run(run())


def test_a_work_that_fails_leaves_the_place_to_the_next() -> None:
    def failing() -> Generator[None, None, str]:
        yield
        raise ValueError("bad")

    async def run() -> None:
        bench = Workbench()
        results = await asyncio.gather(bench.do("t", failing()), bench.do("t", work("b", 1, [])), return_exceptions=True)
        assert isinstance(results[0], ValueError)
        assert results[1] == "b"

    asyncio.run(run())
