"""Refuses names of tasks and queues that nothing knows: most of them are typos."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from pgqueue import (
    DeadLetterFilter,
    JobFilter,
    LimitNotFoundError,
    PgQueue,
    PgQueueError,
    ScheduleNotFoundError,
    UnknownQueueError,
    UnknownTaskError,
)
from pgqueue.cli.output import plain
from pgqueue.flow.limits import FAIR, RATE, SLOTS
from pgqueue.flow.ordering import PREFIX

LATEST: Final = 100
"""Jobs whose tasks may have been meant."""
MOST: Final = 1000
"""Limits, and schedules, that may have been meant."""
MOST_NAMED: Final = 10
"""Names that a message lists, at most."""
OF_QUEUES: Final = (SLOTS, RATE, FAIR)
"""With what the names of the limits of queues begin."""
FORCE: Final = "pass --force if it is right"


async def check_filter(pgq: PgQueue, chosen: JobFilter | DeadLetterFilter) -> None:
    """Raise UnknownTaskError or UnknownQueueError for a filter by a name of which nothing is known.

    Known is what the app or a live worker declares, what has a setting, and what has a job.
    """
    if chosen.task:
        await check_task(pgq, chosen.task)
    if chosen.queue:
        await check_queue(pgq, chosen.queue)


async def check_task(pgq: PgQueue, task: str, advice: str = "") -> None:
    """Raise UnknownTaskError if there is nothing of *task*, not even a job that has ended."""
    known, is_complete = await _tasks(pgq)
    if task not in known and is_complete and not await _has_jobs(pgq, JobFilter(task=task)):
        # Most likely it is one that has run of late, whose worker is stopped.
        known |= {job.task for job in (await pgq.jobs(limit=LATEST, large_results=False)).jobs}
        raise UnknownTaskError(f"unknown task {task!r}{instead(task, known, advice)}")


async def check_queue(pgq: PgQueue, queue: str, advice: str = "") -> None:
    """Raise UnknownQueueError if there is nothing of *queue*, not even a job that has ended."""
    known = await _queues(pgq)
    if queue not in known and not await _has_jobs(pgq, JobFilter(queue=queue)):
        raise UnknownQueueError(f"unknown queue {queue!r}{instead(queue, known, advice)}")


async def check_ordered(pgq: PgQueue, group: str, advice: str = "") -> None:
    """Raise LimitNotFoundError if there is no ordered group of this name, nor does the app declare one."""
    known = {each.name for each in await pgq.ordered_groups()}
    known |= {
        each.ordered.limit.name.removeprefix(PREFIX)
        for each in pgq.registry.definitions
        if each.ordered is not None
    }
    if group not in known:
        raise LimitNotFoundError(group, instead(group, known, advice))


async def check_limit(pgq: PgQueue, name: str) -> None:
    """Raise LimitNotFoundError if there is no limit of this name, nor does the app declare one.

    Any queue that is known may have limits: raises UnknownQueueError if it is not.
    """
    for of_queues in OF_QUEUES:
        if name.startswith(of_queues):
            await check_queue(pgq, name.removeprefix(of_queues), FORCE)
            return
    known = {each.limit.name for task in pgq.registry.definitions for each in task.limits}
    if name in known:
        return
    try:
        await pgq.get_limit(name)
    except LimitNotFoundError:
        known |= {each.name for each in await pgq.limits()}
        raise LimitNotFoundError(name, instead(name, known, FORCE)) from None


async def with_names(pgq: PgQueue, error: ScheduleNotFoundError | LimitNotFoundError) -> PgQueueError:
    """Return *error* with what may have been meant, unless it says so already."""
    kind = type(error)
    if str(error) != str(kind(error.name)):
        return error
    try:
        if isinstance(error, ScheduleNotFoundError):
            names = [each.name for each in await pgq.schedules.list(limit=MOST)]
        else:
            names = [each.name for each in await pgq.limits(limit=MOST)]
    except PgQueueError:
        # Who may not list them is told no more.
        return error
    return kind(error.name, instead(error.name, names))


async def check_new(pgq: PgQueue, *, task: str | None = None, queue: str | None = None) -> None:
    """Raise the same for what new jobs are to have; pass what cannot be judged.

    Where neither an app declares tasks nor a worker is live, any name may be right.
    """
    if not [*pgq.registry.names] and not await pgq.list_workers(jobs=0):
        return
    # A worker may import functions by their dotted paths, and does not declare them.
    if task and "." not in task:
        await check_task(pgq, task, FORCE)
    if queue:
        await check_queue(pgq, queue, FORCE)


async def _tasks(pgq: PgQueue) -> tuple[set[str], bool]:
    """Return the tasks that are known without their jobs, and whether these are all."""
    workers = await pgq.list_workers(jobs=0)
    known = {*pgq.registry.names, *(each.name for each in await pgq.settings() if each.kind == "task")}
    known |= {task for worker in workers for task in worker.tasks or ()}
    # A worker of an older version does not say what it declares.
    return known, all(worker.tasks is not None for worker in workers)


async def _queues(pgq: PgQueue) -> set[str]:
    workers = await pgq.list_workers(jobs=0)
    declared = pgq.registry.queues if [*pgq.registry.names] else frozenset[str]()
    return {*declared, *(each.queue for each in await pgq.measure())} | {
        queue for worker in workers for queue in worker.queues
    }


async def _has_jobs(pgq: PgQueue, chosen: JobFilter) -> bool:
    page = await pgq.jobs(chosen, limit=1, large_results=False)
    # A search that was cut short says nothing.
    return bool(page.jobs) or page.is_cut_short


def instead(name: str, known: Iterable[str], advice: str = "") -> str:
    """Return how a message goes on that there is no *name*: what may have been meant, or what there is."""
    names = sorted(known)
    if close := get_close_matches(name, names, n=1):
        return f"; did you mean {plain(repr(close[0]))}?" + (f" {advice.capitalize()}" if advice else "")
    more = ", ..." if len(names) > MOST_NAMED else ""
    listed = plain(", ".join(map(repr, names[:MOST_NAMED]))) or "none"
    return f" (known: {listed}{more})" + (f"; {advice}" if advice else "")
