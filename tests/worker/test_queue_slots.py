"""Slots and weights of a worker's queues: what runs at once of each, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue import ConfigurationError, PgQueue
from pgqueue.store import Lane
from pgqueue.worker.claim.queue_slots import SlottedBook

QUEUES = ("a", "b", "c")


@dataclass
class Running:
    lane: Lane


def book_of(lanes: list[tuple[str, int]], slots: dict[str, int], weights: dict[str, int]) -> SlottedBook:
    """Return a book of lanes 1, 2, ... that are all believed to have jobs."""
    book = SlottedBook(slots, weights)
    book.learn(Lane(number, queue, priority, "") for number, (queue, priority) in enumerate(lanes, 1))
    for lane_id in book.ids:
        book.wake(lane_id)
    return book


@given(
    lanes=st.lists(st.tuples(st.sampled_from(QUEUES), st.integers(0, 2)), min_size=1, max_size=8),
    slots=st.dictionaries(st.sampled_from(QUEUES), st.integers(1, 4)),
    weights=st.dictionaries(st.sampled_from(QUEUES), st.integers(1, 5)),
    concurrency=st.integers(4, 10),
    ends=st.lists(st.integers(0, 20), max_size=40),
)
def test_no_queue_exceeds_its_slots_and_no_free_slot_is_left(
    lanes: list[tuple[str, int]],
    slots: dict[str, int],
    weights: dict[str, int],
    concurrency: int,
    ends: list[int],
) -> None:
    """Every lane has jobs without end; jobs end in any order."""
    book = book_of(lanes, slots, weights)
    running: list[Running] = []
    for end in [*ends, 0]:
        if running:
            running.pop(end % len(running))
        book.count(running)
        while book.may_claim and len(running) < concurrency:
            walk = book.walk()
            limit = book.limit(concurrency - len(running), walk)
            assert limit > 0
            first = walk[0][0]
            # No lane of a higher priority is passed over that has a slot.
            open_ones = [
                lane.priority
                for lane in book.lanes.values()
                if slots.get(lane.queue, concurrency)
                > Counter(each.lane.queue for each in running)[lane.queue]
            ]
            assert book.lanes[first].priority == max(open_ones)
            running += [Running(book.lanes[first])] * limit
            book.claimed(walk, [(first, 1)] * limit, limit=limit)
            book.wake(first)
        counts = Counter(each.lane.queue for each in running)
        assert all(counts[queue] <= number for queue, number in slots.items())
        assert len(running) == concurrency or all(
            counts[queue] == slots.get(queue) for queue in {queue for queue, _ in lanes}
        )


def test_queues_with_a_backlog_are_claimed_from_by_their_weights() -> None:
    book = book_of([("a", 0), ("b", 0), ("c", 0)], {}, {"a": 3, "b": 2})
    claimed: Counter[str] = Counter()

    for number in range(600):
        book.count([])
        walk = book.walk()
        # As many as happen to be free.
        limit = 1 + number % 4
        claimed[book.lanes[walk[0][0]].queue] += limit
        book.claimed(walk, [(walk[0][0], 1)] * limit, limit=limit)
        book.wake(walk[0][0])

    assert claimed["a"] == pytest.approx(3 * claimed["c"], rel=0.05)
    assert claimed["b"] == pytest.approx(2 * claimed["c"], rel=0.05)


def test_a_queue_that_was_empty_has_saved_no_turns_up() -> None:
    book = book_of([("a", 0)], {}, {"a": 1})
    for _ in range(100):
        walk = book.walk()
        book.claimed(walk, [(1, 1)] * 5, limit=5)
        book.wake(1)
    book.learn([Lane(2, "b", 0, "")])
    book.wake(2)

    firsts = []
    for _ in range(10):
        walk = book.walk()
        firsts.append(walk[0][0])
        book.claimed(walk, [(walk[0][0], 1)], limit=1)
        book.wake(walk[0][0])

    # The other one has one claim of five behind it.
    assert firsts.count(1) >= 2
    assert firsts[-4:] in ([1, 2, 1, 2], [2, 1, 2, 1])


async def test_each_queue_runs_as_many_jobs_as_it_has_slots_and_all_of_them_end(pgq: PgQueue) -> None:
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    full, go_on = asyncio.Event(), asyncio.Event()

    async def work(queue: str) -> None:
        running[queue] += 1
        if running.total() == 8:
            full.set()
        most[queue] = max(most[queue], running[queue])
        await go_on.wait()
        running[queue] -= 1

    tasks = {
        queue: pgq.task(name=f"work_{queue}", queue=queue)(work) for queue in ("mail", "reports", "other")
    }
    jobs = await pgq.enqueue_many(task.s(queue) for _ in range(12) for queue, task in tasks.items())
    async with pgq.worker(queues={"mail": 4, "reports": 1, "other": None}, concurrency=8) as worker:
        async with asyncio.timeout(60):
            await full.wait()
        at_first = dict(running)
        assert worker.slots == 8
        go_on.set()
        for job in jobs:
            await job.result(timeout=60)

    assert at_first.get("mail", 0) <= 4
    assert at_first.get("reports", 0) <= 1
    assert most["mail"] <= 4
    assert most["reports"] == 1


async def test_a_full_queue_holds_no_other_one_up_and_costs_no_turns(pgq: PgQueue) -> None:
    go_on = asyncio.Event()

    @pgq.task(queue="slow", priority=10)
    async def wait() -> None:
        await go_on.wait()

    @pgq.task(queue="quick")
    async def pass_by() -> None: ...

    slow = await pgq.enqueue_many(wait.s() for _ in range(5))
    async with pgq.worker(queues={"slow": 1, "quick": 1}) as worker:
        for _ in range(3):
            await (await pass_by.enqueue()).result(timeout=60)
        assert worker.running == 1
        go_on.set()
        for job in slow:
            await job.result(timeout=60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queues": {"mail": 0}}, "slots of queue 'mail'.* must be a whole number, 1 or more, got 0"),
        ({"queues": {"mail": "5"}}, "slots of queue 'mail'.* must be a whole number"),
        ({"queues": {"mail": True}}, "slots of queue 'mail'.* must be a whole number"),
        ({"queues": {}}, "queues must name at least one queue"),
        ({"queues": {3: 5}}, "a queue must be a non-empty string"),
        ({"queues": {"mail": 20}, "concurrency": 10}, "'mail' has 20 slots, .*concurrency is 10: raise"),
        ({"queues": {"mail": 2}, "prefetch_multiplier": 2}, "prefetch_multiplier .* slots per queue"),
        ({"queues": ["mail"], "weights": {"mial": 3}}, "weights names queue 'mial', .* serves mail"),
        ({"queues": ["mail"], "weights": {"mail": 0}}, "weight of queue 'mail' must be .* 1 or more"),
        ({"queues": ["mail"], "weights": [3]}, "weights must be a mapping"),
        ({"queues": "mail"}, "queues must be a list of names, or a mapping"),
    ],
)
async def test_slots_and_weights_that_cannot_work_are_refused(
    pgq: PgQueue, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        pgq.worker(**options)

    assert pgq.workers == []


@pytest.mark.parametrize(
    ("queues", "concurrency"),
    [({"mail": 20, "reports": 2}, 22), ({"mail": 20, "reports": None}, 30), (["mail"], 10), (None, 10)],
)
async def test_the_concurrency_is_the_sum_of_the_slots_by_default(
    pgq: PgQueue, queues: Any, concurrency: int
) -> None:
    assert pgq.worker(queues=queues).slots == concurrency
