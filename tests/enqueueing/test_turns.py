"""A call's coroutine and the thread of its caller take turns."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from pgqueue.blocking.lending import Hand
from pgqueue.blocking.turns import call_here


def is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def test_steps_are_done_in_the_callers_thread_while_no_event_loop_runs_there() -> None:
    seen: list[tuple[bool, int]] = []

    def step(value: int) -> int:
        seen.append((is_in_a_loop(), threading.get_ident()))
        return value + 1

    async def work(hand: Hand) -> int:
        found = await hand.run(lambda: step(1))
        await asyncio.sleep(0)
        return await hand.run(lambda: step(found))

    assert call_here(work) == 3
    assert seen == [(False, threading.get_ident())] * 2


def test_from_within_an_event_loop_it_works_as_well() -> None:
    async def work(hand: Hand) -> int:
        return await hand.run(lambda: 1) + 1

    async def program() -> int:
        return call_here(work)

    assert asyncio.run(program()) == 2


def test_what_a_step_raises_is_raised_in_the_coroutine_and_what_that_raises_at_the_call() -> None:
    caught: list[str] = []

    def fail() -> None:
        raise ValueError("no")

    async def work(hand: Hand) -> None:
        try:
            await hand.run(fail)
        except ValueError as error:
            caught.append(str(error))
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        call_here(work)
    assert caught == ["no"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_call_ends_its_coroutine_first(kind: type[BaseException]) -> None:
    ended: list[str] = []

    def interrupt() -> None:
        raise kind

    async def work(hand: Hand) -> None:
        try:
            await hand.run(interrupt)
        finally:
            await hand.run(lambda: ended.append("rolled back"))

    with pytest.raises(kind):
        call_here(work)
    assert ended == ["rolled back"]


def test_the_callers_context_is_that_of_the_coroutine_and_no_event_loop_is_left() -> None:
    from contextvars import ContextVar

    tenant: ContextVar[str] = ContextVar("tenant")
    tenant.set("a")
    loops: list[Any] = []

    async def work(_: Hand) -> str:
        loops.append(asyncio.get_running_loop())
        return tenant.get()

    assert call_here(work) == "a"
    assert loops[0].is_closed()
    assert not is_in_a_loop()
