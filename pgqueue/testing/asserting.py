"""Says what was enqueued, and what was enqueued instead."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from pgqueue.app import PgQueue
from pgqueue.errors import ConfigurationError, InvalidArgumentsError
from pgqueue.model.checks import count, shown
from pgqueue.model.jobs import Job
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.task import Task
from pgqueue.testing.opening import opened

LISTED: Final = 20
"""Jobs that a message lists, at most."""
PAGE: Final = 1000


async def assert_enqueued(
    task: Task[..., Any], /, *args: Any, queue: str | None = None, times: int | None = None, **kwargs: Any
) -> list[Job]:
    """Raise AssertionError unless *task* was enqueued with these arguments; return the jobs, oldest first.

        await assert_enqueued(send_email, "ann@example.com", subject=ANY, queue="mail", times=1)

    Arguments that are left out may be anything, and so may those that are `unittest.mock.ANY`; the others are
    compared as the handler would get them. *queue*: into this queue. *times*: exactly so many jobs (0: none);
    None: one or more. Jobs that have run count, too; those of a transaction that was rolled back, or is open,
    do not exist. The message shows what was enqueued instead. A task with a parameter that is called `queue`
    or `times` gets it by its place.

    It works in `inline` as well. Raises InvalidArgumentsError for arguments that the task does not have.
    """
    __tracebackhide__ = True
    if not isinstance(task, Task) or not isinstance(task.host, PgQueue):
        raise ConfigurationError(f"assert_enqueued: pass a task, got {shown(task)}")
    if times is not None:
        count("assert_enqueued: times", times)
    definition, pgq = task.definition, task.host
    wanted = _bound(definition, args, kwargs, is_whole=False)
    async with opened(pgq):
        jobs = await _all_jobs(pgq, task=task.name)
        found = [
            job
            for job in jobs
            if (queue is None or job.queue == queue) and _matches(wanted, _arguments(definition, job))
        ]
        if len(found) == times or (times is None and found):
            return found
        others = Counter(job.task for job in await _all_jobs(pgq)) if not jobs else Counter[str]()
    call = ", ".join([*map(shown, args), *(f"{name}={shown(value)}" for name, value in kwargs.items())])
    what = f"{task.name}({call or '...'})" + (f" in queue {queue!r}" if queue is not None else "")
    how_often = "was not enqueued" if not found else f"was enqueued {_times(len(found))}"
    if times:
        how_often += f", and not {_times(times)}"
    elif times == 0:
        how_often += ", and was not to be"
    raise AssertionError("\n".join([f"{what} {how_often}", *_instead(pgq, task.name, jobs, others)]))


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _instead(pgq: PgQueue, task: str, jobs: list[Job], others: Mapping[str, int]) -> list[str]:
    if jobs:
        lines = [f"  {_told(pgq, job)}" for job in jobs[:LISTED]]
        if len(jobs) > LISTED:
            lines.append(f"  ... and {len(jobs) - LISTED} more")
        return [f"Jobs of {task}:", *lines]
    if others:
        return ["Jobs of other tasks:", *(f"  {name} ({number})" for name, number in others.items())]
    return ["Nothing was enqueued."]


def _told(pgq: PgQueue, job: Job) -> str:
    given = pgq.shown_arguments(job)
    if isinstance(given, Mapping):
        positional = given.get("*", [])
        named = [f"{name}={shown(value)}" for name, value in given.items() if name != "*"]
        call = ", ".join([*map(shown, positional), *named])
    else:
        call = shown(given)
    return f"{job.task}({call}), queue {job.queue}, {job.status}"


async def _all_jobs(pgq: PgQueue, task: str | None = None) -> list[Job]:
    """Return all jobs, oldest first."""
    jobs: list[Job] = []
    cursor: str | None = None
    while True:
        page = await pgq.jobs(task=task, limit=PAGE, cursor=cursor)
        jobs += page.jobs
        cursor = page.cursor
        if cursor is None:
            return jobs[::-1]


def _bound(
    definition: TaskDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_whole: bool
) -> dict[str, Any]:
    """Return arguments by the names of the parameters. Raises InvalidArgumentsError."""
    try:
        signature = inspect.signature(definition.handler)
        parameters = [
            parameter
            for name, parameter in signature.parameters.items()
            if name not in definition.dependencies.names
        ][definition.takes_context :]
        bound = signature.replace(parameters=parameters).bind_partial(*args, **kwargs)
    except TypeError as error:
        raise InvalidArgumentsError(definition.name, str(error)) from None
    if is_whole:
        bound.apply_defaults()
    return dict(bound.arguments)


def _arguments(definition: TaskDefinition, job: Job) -> dict[str, Any]:
    """Return the arguments of *job*, by name, as its handler gets them; as they are stored, if that fails."""
    try:
        args, kwargs = definition.arguments.decode(json.dumps(job.arguments))
        return _bound(definition, args, kwargs, is_whole=True)
    except Exception:
        # The first one of a link comes from the job before it; validators may raise anything.
        return dict(job.arguments) if isinstance(job.arguments, Mapping) else {}


def _matches(wanted: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    return all(name in given and value == given[name] for name, value in wanted.items())
