"""What counts as a problem of a queue, and which queues come first."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue.model.measures import Count, Drain, QueueMeasure, WorkerMeasure
from pgqueue.model.problems import DEEP, LATE, ORDER, grows, problems_of, worst_first

pytestmark = pytest.mark.contract("W24")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NONE = Count(0)
GOOD = QueueMeasure(
    "mail", False, NONE, NONE, NONE, NONE, NONE, NONE, None, 0.0, 0.0, None, None, None
)  # fmt: skip
NEVER = Drain(math.inf, math.inf, math.inf)


def kinds(queue: QueueMeasure, *served: str) -> list[str]:
    return [each.kind for each in problems_of(queue, served)]


def worker(*queues: str, left: float = 10.0) -> WorkerMeasure:
    return WorkerMeasure(UUID(int=1), "w", None, queues, NOON, 1.0, left, None, None, 0, 0, ())


def test_what_is_empty_is_no_problem() -> None:
    assert kinds(GOOD) == []
    assert kinds(replace(GOOD, is_paused=True)) == []
    assert kinds(replace(GOOD, enqueued_rate=9.0, drain=NEVER)) == []
    assert kinds(replace(GOOD, scheduled=Count(5))) == []


def test_each_problem_is_said_in_words() -> None:
    busy = replace(GOOD, pending=Count(120))

    assert problems_of(replace(busy, is_paused=True), {"mail"})[0].text == "paused, while 120 jobs wait"
    assert problems_of(busy, ())[0].text == "no live worker serves it, and 120 jobs have to wait"
    late = replace(busy, oldest_age=LATE + 60)
    assert problems_of(late, {"mail"})[0].text == "the oldest job has waited for 6 min"
    growing = replace(busy, enqueued_rate=2.0, finished_rate=0.5, drain=NEVER)
    assert problems_of(growing, {"mail"})[0].text == "it grows: 2/s enqueued, 0.5/s finished"
    assert problems_of(replace(GOOD, failed=Count(1)), ())[0].text == "1 dead letter"
    one = replace(GOOD, pending=Count(1))
    assert problems_of(one, ())[0].text == "no live worker serves it, and 1 job has to wait"


def test_what_a_pause_explains_is_not_said_twice() -> None:
    queue = replace(
        GOOD, is_paused=True, pending=Count(120), oldest_age=9999.0, enqueued_rate=1.0, drain=NEVER
    )

    assert kinds(queue) == ["paused"]


def test_a_queue_grows_only_if_more_comes_than_ends() -> None:
    deep = replace(GOOD, pending=Count(DEEP), enqueued_rate=2.0, finished_rate=1.0)

    assert grows(deep)
    assert not grows(replace(deep, pending=Count(DEEP - 1)))
    assert not grows(replace(deep, finished_rate=2.0))
    # A burst that is over: at the usual rate it empties.
    assert not grows(replace(deep, drain=Drain(1.0, 2.0, 3.0)))


def test_the_worst_queues_come_first_and_the_others_by_name() -> None:
    queues = [
        replace(GOOD, queue="a"),
        replace(GOOD, queue="b", failed=Count(2)),
        replace(GOOD, queue="c", pending=Count(1), is_paused=True),
        replace(GOOD, queue="d", pending=Count(1)),
        replace(GOOD, queue="e", pending=Count(1), failed=Count(1)),
        replace(GOOD, queue="f", pending=Count(1), oldest_age=LATE * 2),
        replace(GOOD, queue="0"),
    ]

    # The lease of the one that serves d has run out.
    found = worst_first(queues, [worker("f"), worker("d", left=-1.0)])

    assert [queue.queue for queue, _ in found] == ["e", "d", "c", "f", "b", "0", "a"]


@given(st.lists(st.sampled_from(["pending", "failed", "is_paused", "oldest_age"]), unique=True))
def test_problems_are_in_the_order_of_their_weight(what: list[str]) -> None:
    values: dict[str, Any] = {"pending": Count(500), "failed": Count(3), "is_paused": True, "oldest_age": 1e6}

    found = kinds(replace(GOOD, **{name: values[name] for name in what}))

    assert found == sorted(found, key=ORDER.index)
    assert len(set(found)) == len(found)
