"""What is wrong with a queue, in words, the worst first. Pure functions on values."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Final, Literal, NamedTuple

from pgqueue.model import figures
from pgqueue.model.measures import QueueMeasure, WorkerMeasure

LATE: Final = 300.0
"""Seconds that a pending job may wait before that is a problem."""
DEEP: Final = 100
"""Pending jobs from which on it is a problem that a queue grows."""

Trouble = Literal["unserved", "paused", "late", "grows", "dead letters"]
"""No worker serves it; it is paused with jobs in it; its oldest job waits long; more comes than ends; jobs
have failed for good."""

ORDER: Final[tuple[Trouble, ...]] = ("unserved", "paused", "late", "grows", "dead letters")
"""The worst first."""


class Problem(NamedTuple):
    """One thing that is wrong with a queue."""

    kind: Trouble
    text: str
    """For people."""


def problems_of(queue: QueueMeasure, served: Collection[str]) -> list[Problem]:
    """Return what is wrong with *queue*, the worst first. *served*: the queues that live workers serve."""
    found: list[Problem] = []
    jobs = f"{figures.count(queue.pending)} {'job' if queue.pending.value == 1 else 'jobs'}"
    have = "has" if queue.pending.value == 1 else "have"
    if queue.pending.value and queue.is_paused:
        found.append(Problem("paused", f"paused, while {jobs} {'waits' if have == 'has' else 'wait'}"))
    elif queue.pending.value:
        if queue.queue not in served:
            found.append(Problem("unserved", f"no live worker serves it, and {jobs} {have} to wait"))
        if queue.oldest_age is not None and queue.oldest_age > LATE:
            found.append(
                Problem("late", f"the oldest job has waited for {figures.roughly(queue.oldest_age)}")
            )
        if grows(queue):
            unit = figures.rate_unit([queue.enqueued_rate, queue.finished_rate])
            found.append(
                Problem(
                    "grows",
                    f"it grows: {figures.rate(queue.enqueued_rate, unit)} enqueued, "
                    f"{figures.rate(queue.finished_rate, unit)} finished",
                )
            )
    if queue.failed.value:
        found.append(
            Problem(
                "dead letters",
                f"{figures.count(queue.failed)} dead {'letter' if queue.failed.value == 1 else 'letters'}",
            )
        )
    return sorted(found, key=lambda each: ORDER.index(each.kind))


def grows(queue: QueueMeasure) -> bool:
    """Whether more is enqueued than ends, and so much is pending that it matters."""
    is_deep = queue.pending.value >= DEEP
    is_gaining = queue.enqueued_rate > queue.finished_rate
    never = queue.drain is None or math.isinf(queue.drain.likely)
    return is_deep and is_gaining and never


def worst_first(
    queues: Iterable[QueueMeasure], workers: Iterable[WorkerMeasure]
) -> list[tuple[QueueMeasure, list[Problem]]]:
    """Return *queues* with what is wrong with each: the worst first; of equal ones by name."""
    served = {queue for worker in workers if worker.is_alive for queue in worker.queues}
    judged = [(queue, problems_of(queue, served)) for queue in queues]
    return sorted(judged, key=lambda each: (rank(each[1]), each[0].queue))


def rank(problems: Collection[Problem]) -> tuple[int, int]:
    """Return what to sort by: the worst problem, then how many more there are."""
    kinds = [ORDER.index(each.kind) for each in problems]
    return min(kinds, default=len(ORDER)), -len(kinds)
