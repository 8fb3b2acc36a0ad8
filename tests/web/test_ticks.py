"""Ticks: a page that shows the queues is told when they changed, and one look does for all pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.streams import following, listening
from kit.web_server import serving

from pgqueue import PgQueue
from pgqueue.errors import DatabaseUnavailableError, NotOpenError
from pgqueue.model.measures import Count, QueueMeasure
from pgqueue.web import status_app
from pgqueue.web.live.job_events import Event
from pgqueue.web.live.queue_ticks import REST_FACTOR, Ticker, snapshot_of

WITHIN = 60.0

EMPTY = QueueMeasure(
    queue="default",
    is_paused=False,
    pending=Count(0),
    scheduled=Count(0),
    retrying=Count(0),
    blocked=Count(0),
    running=Count(0),
    failed=Count(0),
    oldest_age=None,
    enqueued_rate=0.0,
    finished_rate=0.0,
    wait=None,
    run=None,
    drain=None,
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgqueue.web.live.queue_ticks.INTERVAL", 0.05)


class Queues:
    """Queues as a test wants them to be, and how often they were looked at."""

    def __init__(self) -> None:
        self.now = [EMPTY]
        self.looked_at: list[float] = []
        self.errors: list[Exception] = []

    async def measure(self) -> list[QueueMeasure]:
        self.looked_at.append(time.monotonic())
        if self.errors:
            raise self.errors.pop()
        return self.now

    @property
    def looks(self) -> int:
        return len(self.looked_at)

    def set_pending(self, count: int) -> None:
        self.now = [replace(EMPTY, pending=Count(count))]

    async def be_looked_at(self, times: int = 1) -> None:
        wanted = self.looks + times
        with anyio.fail_after(WITHIN):
            while self.looks < wanted:  # noqa: ASYNC110  # it is a number
                await anyio.sleep(0.01)


async def tick(ticks: AsyncGenerator[Event]) -> Event:
    with anyio.fail_after(WITHIN):
        return await anext(ticks)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_passing_of_time_is_no_change(one: float, other: float) -> None:
    before, after = (replace(EMPTY, pending=Count(1), oldest_age=age) for age in (one, other))

    assert snapshot_of([before]).version == snapshot_of([after]).version


@pytest.mark.parametrize(
    "change",
    [
        {"is_paused": True},
        {"pending": Count(1)},
        {"pending": Count(0, is_exact=False)},
        {"failed": Count(1)},
        {"finished_rate": 0.1},
        {"queue": "other"},
    ],
)
def test_what_changes_about_a_queue_is_seen(change: dict[str, Any]) -> None:
    before, after = snapshot_of([EMPTY]), snapshot_of([replace(EMPTY, **change)])

    assert before.version != after.version
    assert change.get("queue", "default") in after.changed_since(before.queues)


@pytest.mark.contract("P6.8")
async def test_a_listener_is_told_how_it_is_and_then_what_changed() -> None:
    queues = Queues()
    queues.now = [EMPTY, replace(EMPTY, queue="mail")]
    async with aclosing(Ticker(queues.measure).listen(seen=None)) as ticks:
        first = await tick(ticks)
        waiting = asyncio.create_task(tick(ticks))
        await queues.be_looked_at(2)
        was_quiet = not waiting.done()
        queues.set_pending(3)
        second = await waiting

    assert '"queues":["default","mail"]' in first.data
    assert was_quiet
    # One changed, the other is gone.
    assert '"queues":["default","mail"]' in second.data
    assert first.version != second.version


@pytest.mark.contract("P6.8")
async def test_a_listener_that_knows_the_queues_as_they_are_is_told_nothing() -> None:
    queues = Queues()
    ticker = Ticker(queues.measure)
    async with aclosing(ticker.listen(seen=None)) as ticks:
        first = await tick(ticks)
    async with aclosing(ticker.listen(seen=first.version)) as ticks:
        waiting = asyncio.create_task(tick(ticks))
        await queues.be_looked_at(2)
        was_quiet = not waiting.done()
        queues.set_pending(1)

        assert was_quiet
        assert (await waiting).version != first.version


@pytest.mark.contract("P6.8")
async def test_any_number_of_listeners_cost_one_look_an_interval_and_none_costs_none() -> None:
    queues = Queues()
    ticker = Ticker(queues.measure)
    heard: list[Event] = []

    async def listen() -> None:
        async with aclosing(ticker.listen(seen=None)) as ticks:
            heard.append(await tick(ticks))
            heard.append(await tick(ticks))

    async with anyio.create_task_group() as group:
        for _ in range(200):
            group.start_soon(listen)
        with anyio.fail_after(WITHIN):
            while len(heard) < 200:  # noqa: ASYNC110  # it is a list
                await anyio.sleep(0.001)
        queues.set_pending(1)
    looks = queues.looks
    await anyio.sleep(0.2)

    assert len(heard) == 400
    assert looks >= 2
    assert all(later - earlier > 0.049 for earlier, later in pairwise(queues.looked_at))
    assert queues.looks == looks


async def test_when_the_listener_that_measures_leaves_another_takes_over() -> None:
    queues = Queues()
    ticker = Ticker(queues.measure)
    listeners = [ticker.listen(seen=None) for _ in range(2)]
    for ticks in listeners:
        await tick(ticks)
    leaving, staying = (asyncio.create_task(tick(ticks)) for ticks in listeners)
    await queues.be_looked_at()

    leaving.cancel()
    queues.set_pending(1)

    assert "default" in (await staying).data


@pytest.mark.contract("P6.8")
async def test_listeners_that_wait_take_the_latest_measure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second look would come much later than they are waited for."""
    monkeypatch.setattr("pgqueue.web.live.queue_ticks.INTERVAL", 3600.0)
    queues = Queues()
    can_be_seen = anyio.Event()

    async def measure() -> list[QueueMeasure]:
        found = await queues.measure()
        await can_be_seen.wait()
        return found

    ticker = Ticker(measure)
    heard: list[Event] = []

    async def listen() -> None:
        async with aclosing(ticker.listen(seen=None)) as ticks:
            heard.append(await tick(ticks))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        can_be_seen.set()

    assert (len(heard), queues.looks) == (50, 1)


@pytest.mark.contract("P6.8")
async def test_a_look_that_took_a_while_is_not_repeated_for_much_longer() -> None:
    queues = Queues()

    async def measure() -> list[QueueMeasure]:
        found = await queues.measure()
        await anyio.sleep(0.03)
        return found

    async with aclosing(Ticker(measure).listen(seen=None)) as ticks:
        await tick(ticks)
        queues.set_pending(1)
        await tick(ticks)

    first, second = queues.looked_at
    assert second - first > REST_FACTOR * 0.03


async def test_listeners_outlast_an_outage_of_the_database() -> None:
    queues = Queues()
    queues.errors = [DatabaseUnavailableError("away"), ConnectionResetError()]

    async with aclosing(Ticker(queues.measure).listen(seen=None)) as ticks:
        assert "default" in (await tick(ticks)).data


async def test_a_closed_pgqueue_ends_the_ticks_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgqueue.web.live.queue_ticks.INTERVAL", 3600)
    queues = Queues()
    queues.errors = [NotOpenError("closed"), NotOpenError("closed")]
    ticker = Ticker(queues.measure)

    async def told() -> list[str]:
        return [event.name async for event in ticker.listen(seen=None)]

    with anyio.fail_after(WITHIN):
        heard = await asyncio.gather(told(), told())

    assert list(heard) == [[], []]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=WITHIN) as client:
        yield client


@pytest.mark.contract("P6.8")
async def test_a_page_is_told_when_jobs_come(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task(queue="mail")
    async def send() -> None: ...

    async with (
        serving(status_app(pgq, local_reading=True)) as url,
        listening(client, f"{url}/events") as (_, events),
    ):
        first = await following(events)
        await send.enqueue()
        second = await following(events)

    assert (first.event, second.event) == ("tick", "tick")
    assert "mail" in second.json()["queues"]
    assert second.json()["at"] > first.json()["at"]
    assert first.id != second.id


async def test_ticks_need_permission_to_read_queues(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    async with serving(status_app(pgq, token="a-secret-for-tests")) as url:
        refused = await client.get(f"{url}/events")
        head = await client.head(f"{url}/events", headers={"Authorization": "Bearer a-secret-for-tests"})

    assert (refused.status_code, head.status_code) == (401, 200)
