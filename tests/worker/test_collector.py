"""Pausing Python's garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from pgqueue import InvalidArgumentsError, PgQueue, group
from pgqueue.enqueueing.gc_pause import FEW, collector_paused
from pgqueue.worker.attempt.attempt import RunningAttempt


@pytest.fixture
def collector_off() -> None:
    """Switch the collector off, as some programs do."""
    gc.disable()


@pytest.fixture(autouse=True)
def _collector_on_again() -> Iterator[None]:
    yield
    gc.enable()


def test_the_collector_comes_back_after_a_pause() -> None:
    with collector_paused(FEW):
        assert not gc.isenabled()

    assert gc.isenabled()


def test_a_few_objects_are_not_worth_a_pause() -> None:
    with collector_paused(FEW - 1):
        assert gc.isenabled()


@pytest.mark.usefixtures("collector_off")
def test_a_collector_that_the_program_has_switched_off_stays_off() -> None:
    with collector_paused(FEW):
        pass

    assert not gc.isenabled()


async def test_a_bulk_call_that_is_refused_brings_the_collector_back(pgq: PgQueue) -> None:
    @pgq.task
    async def square(number: int) -> int:
        return number * number

    with pytest.raises(InvalidArgumentsError):
        await pgq.enqueue_many([*map(square.s, range(FEW)), square.s("two")])  # type: ignore[call-overload]

    assert gc.isenabled()


seen: list[bool] = []
"""Whether the collector was on, at each number that was read."""


def _look(number: int) -> int:
    seen.append(gc.isenabled())
    return number


@pytest.mark.parametrize("door", ["canvas", "graph"])
async def test_a_workflow_is_read_in_a_pause_which_ends_when_it_is_refused(pgq: PgQueue, door: str) -> None:
    seen.clear()

    @pgq.task
    async def square(number: Annotated[int, AfterValidator(_look)]) -> int:
        return number * number

    calls: Any = [square.s(2), square.s("two")]  # type: ignore[call-overload]
    flow = pgq.workflow("squares")
    for number, call in enumerate(calls):
        flow.add(str(number), call)

    with pytest.raises(InvalidArgumentsError):
        await (group(*calls) if door == "canvas" else flow).enqueue()

    assert set(seen) == {False}
    assert gc.isenabled()


@pytest.fixture
def garbage() -> Iterator[list[object]]:
    """Have the collector keep what it finds."""
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()


@pytest.mark.parametrize("waits", [False, True])
async def test_a_job_that_has_ended_leaves_nothing_to_collect(
    pgq: PgQueue, garbage: list[object], waits: bool
) -> None:
    @pgq.task
    async def work() -> None:
        if waits:
            await asyncio.sleep(0)

    async with pgq.worker():
        # One after the other: a worker that is idle still knows its last batch.
        for _ in range(5):
            await (await work.enqueue()).result()
        gc.collect()

        assert not [each for each in garbage if isinstance(each, RunningAttempt)]
