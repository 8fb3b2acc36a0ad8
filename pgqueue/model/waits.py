"""Why a job waits, as a kind and as a sentence: the same in Python, over HTTP, in a shell and on its page.

Pure functions on what was read of the job.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from pgqueue.model.documents import Id, Time
from pgqueue.model.figures import amount, duration, moment

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    # pydantic, which describes these types, cannot read those of an older `typing`.
    from typing_extensions import TypedDict

MOST_BEFORE: Final = 1000
"""Jobs before another that are counted."""

ORDER: Final = "order/"
"""How the limits that ordered groups are begin."""
FAR: Final = 10 * 365 * 86_400.0
"""Seconds from now: a time after that is as good as none."""

WaitKind = Literal[
    "turn",
    "prefetched",
    "no_worker",
    "unknown_task",
    "paused_queue",
    "paused_task",
    "paused_workflow",
    "start",
    "retry",
    "snooze",
    "limit",
    "rate",
    "window",
    "order",
    "job",
    "dependencies",
    "children",
    "event",
    "sleep",
    "unknown",
]
"""What a job waits for: its turn among pending jobs, the worker that has prefetched it, a worker that serves
its queue or declares its task; the end of a pause; a time, for its first start, a retry or a snooze; a slot
of a limit, a rate, the window of a fair queue or its turn in an ordered group; another job, the jobs before
it in its workflow, the jobs that it has started; an event, or a time that its handler sleeps until."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands, as far as it says what the job waits for."""

    stands: Literal["ready", "prefetched", "scheduled", "blocked"]
    task: str
    queue: str
    is_aside: bool
    """Whether workers that do not know its task have put it aside."""
    scheduled_at: datetime | None
    attempt: int | None
    blocked_at: datetime | None
    waits_for: UUID | None
    wake_at: datetime | None
    event: str | None
    now: datetime
    queue_paused_at: datetime | None
    task_paused_at: datetime | None
    workflow_paused_at: datetime | None
    prefetched_by: str | None
    is_served: bool
    """Whether a live worker serves its queue."""
    is_known: bool
    """... and declares its task."""
    last_reason: str | None
    before: int | None
    """Pending jobs before it in its queue."""
    total: int | None
    """Jobs before it in its workflow."""
    open: int | None
    """Those of them that have not ended."""
    link: UUID | None
    """The job before it in a chain, or what it waits for of those that it has started."""
    link_position: int | None
    join_total: int | None
    join_open: int | None
    limit_name: str | None
    limit_key: str | None
    limit_kind: str
    slots: int | None
    rate: float | None
    burst: int | None
    in_use: int | None
    turns_before: int | None
    """Jobs that wait for the same key of the limit, before it."""
    closed_until: datetime | None
    """Until when no job passes the limit, because a handler was told so."""
    stopped_by: UUID | None
    """The job that has failed before it in its ordered group."""
    is_halted: bool | None
    """Whether the key waits until it is resumed."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What a job waits for."""

    kind: WaitKind
    text: str
    """A sentence, or two."""
    until: datetime | None = None
    """When it goes on at the latest, or about when. None: that is not known."""
    limit: str | None = None
    """The limit that it waits for, and the key of it."""
    key: str | None = None
    before: int | None = None
    """Jobs before it, counted to 1,000."""
    job_id: UUID | None = None
    """The job that it waits for."""


class WaitDocument(TypedDict):
    """What a job waits for."""

    kind: str
    """What it waits for, as one word, such as `limit`, `retry` or `no_worker`."""
    text: str
    """... and as a sentence."""
    until: Time | None
    """When it goes on at the latest, or about when. Null: that is not known."""
    limit: str | None
    """The limit that it waits for."""
    key: str | None
    before: int | None
    """Jobs before it, counted to 1,000."""
    job_id: Id | None
    """The job that it waits for."""


def wait_document(wait: Wait) -> WaitDocument:
    """Return what a job waits for."""
    return {
        "kind": wait.kind,
        "text": wait.text,
        "until": None if wait.until is None else wait.until.isoformat(),
        "limit": wait.limit,
        "key": wait.key,
        "before": wait.before,
        "job_id": None if wait.job_id is None else str(wait.job_id),
    }


def explain(job: Standing) -> Wait:
    """Return what *job* waits for: what keeps it longest, as far as that is known."""
    match job.stands:
        case "ready":
            return _pending(job)
        case "prefetched":
            by = "a worker" if job.prefetched_by is None else f"worker {job.prefetched_by}"
            return Wait("prefetched", f"It was claimed by {by}, and starts there when a slot is free.")
        case "scheduled":
            return _scheduled(job)
        case "blocked":
            return _blocked(job)


def _pending(job: Standing) -> Wait:
    if paused := _paused(job):
        return paused
    if not job.is_served:
        return Wait("no_worker", f"No live worker serves its queue {job.queue}.")
    if not job.is_known:
        return Wait(
            "unknown_task", f"No live worker that serves its queue {job.queue} declares its task {job.task}."
        )
    before = job.before or 0
    text = f"It is ready to run; {_jobs(before)} of its queue {_are(before)} before it."
    if job.is_aside:
        text = f"It is ready to run, on a worker that declares its task {job.task}."
    elif not before:
        text = "It is ready to run, and the next of its queue; it starts when a worker has a free slot."
    return Wait("turn", text, before=before)


def _paused(job: Standing) -> Wait | None:
    if job.queue_paused_at is not None:
        return Wait(
            "paused_queue", f"Its queue {job.queue} has been paused since {moment(job.queue_paused_at)}."
        )
    if job.task_paused_at is not None:
        return Wait("paused_task", f"Its task {job.task} has been paused since {moment(job.task_paused_at)}.")
    return None


def _scheduled(job: Standing) -> Wait:
    until = job.scheduled_at
    at = "later" if until is None else f"at {moment(until)}"
    if until is not None and until <= job.now:
        at = "at once: its time has come"
    if job.last_reason == "snoozed":
        return Wait("snooze", _also_paused(job, f"Its handler has put it off; it starts again {at}."), until)
    if job.last_reason is not None and job.attempt:
        text = f"Its attempt {job.attempt} ended with {job.last_reason}; the next one starts {at}."
        return Wait("retry", _also_paused(job, text), until)
    return Wait("start", _also_paused(job, f"It starts {at}."), until)


def _blocked(job: Standing) -> Wait:
    if job.limit_name is not None:
        return _paused(job) or (_in_line if job.limit_name.startswith(ORDER) else _limited)(job)
    if job.waits_for is not None:
        text = _also_paused(job, f"It waits for job {job.waits_for} to end.")
        return Wait("job", text, job_id=job.waits_for)
    return (
        _behind_others(job)
        or _waits_itself(job)
        or _of_paused_workflow(job)
        or Wait("unknown", "What it waits for has ended; it goes on at once.")
    )


def _behind_others(job: Standing) -> Wait | None:
    """Return what a member of a workflow waits for, if jobs before it have not ended."""
    if job.open:
        of = "" if job.total is None else f" of the {amount(job.total)}"
        text = f"{_jobs(job.open)}{of} before it in its workflow {_have(job.open)} not ended."
        return Wait("dependencies", _also_paused(job, text), before=job.open)
    if job.join_open and job.link_position == -1:
        return _waits_for_children(job, job.join_total or job.join_open, job.join_open)
    if job.join_open:
        text = (
            f"{_jobs(job.join_open)} of the group before it in its workflow {_have(job.join_open)} not ended."
        )
        return Wait("dependencies", _also_paused(job, text), before=job.join_open)
    if job.link is not None and job.join_total is None:
        text = f"It waits for job {job.link}, which is before it in its workflow."
        return Wait("dependencies", _also_paused(job, text), before=1, job_id=job.link)
    return None


def _waits_itself(job: Standing) -> Wait | None:
    """Return what the handler of a job waits for: an event or a time."""
    if job.event is not None:
        until = "without a time limit"
        if job.wake_at is not None:
            until = f"until {moment(job.wake_at)} at the latest"
        text = f"Its handler waits for event {job.event!r}, {until}."
        return Wait("event", _also_paused(job, text), job.wake_at)
    if job.wake_at is not None and job.wake_at > job.now:
        text = f"Its handler sleeps until {moment(job.wake_at)}."
        return Wait("sleep", _also_paused(job, text), job.wake_at)
    return None


def _of_paused_workflow(job: Standing) -> Wait | None:
    if job.workflow_paused_at is None:
        return None
    text = f"Its workflow has been paused since {moment(job.workflow_paused_at)}."
    return Wait("paused_workflow", text)


def _waits_for_children(job: Standing, total: int, still_open: int) -> Wait:
    text = f"Its handler waits for {_jobs(still_open)} of {amount(total)} that it has started."
    if job.wake_at is not None:
        text += f" It goes on at {moment(job.wake_at)} at the latest."
    return Wait("children", _also_paused(job, text), job.wake_at, before=still_open)


def _in_line(job: Standing) -> Wait:
    """Return what a job of an ordered group waits for."""
    assert job.limit_name is not None
    before = job.turns_before or 0
    group = job.limit_name.removeprefix(ORDER)
    of_key = f", key {job.limit_key!r}" if job.limit_key else ""
    text = f"It waits for its turn in ordered group {group}{of_key}: "
    if job.stopped_by is not None:
        text += f"job {job.stopped_by} has stopped it. It goes on when " + (
            "the key is resumed." if job.is_halted else "that job is redriven, and ends, or is discarded."
        )
    elif before:
        text += f"{_jobs(before)} {_are(before)} before it."
    else:
        text += "it is the next, after the one that holds the turn."
    return Wait("order", text, None, job.limit_name, job.limit_key, before, job.stopped_by)


def _limited(job: Standing) -> Wait:
    assert job.limit_name is not None
    before = job.turns_before or 0
    of_key = f", key {job.limit_key!r}" if job.limit_key else ""
    in_line = f"{_jobs(before)} {_are(before)} before it" if before else "it is the next"
    until: datetime | None = None
    kind: WaitKind = "limit"
    match job.limit_kind:
        case "rate":
            kind = "rate"
            rate = job.rate if job.rate is not None and 0 < job.rate < math.inf else None
            pace = "any number of jobs" if rate is None else _pace(rate)
            text = f"It waits for limit {job.limit_name}{of_key}, which lets {pace} start; {in_line}."
            if rate is not None:
                until = _about_when(job, rate, before)
                text += f" It passes at about {moment(until)}."
        case "window":
            kind = "window"
            text = (
                f"It waits for its turn in the fair queue {job.queue}{of_key}: as many jobs as its window "
                f"holds are pending; {in_line}."
            )
        case _:
            held = amount(job.in_use or 0)
            slots = held if job.slots is None else f"{held} of {amount(job.slots)}"
            text = f"It waits for limit {job.limit_name}{of_key}: {slots} slots are in use; {in_line}."
    if job.closed_until is not None and job.closed_until > job.now:
        text += f" The limit is closed until {moment(job.closed_until)}."
        until = max(job.closed_until, until or job.closed_until)
    return Wait(kind, text, until, job.limit_name, job.limit_key, before)


def _about_when(job: Standing, rate: float, before: int) -> datetime:
    wait = (before + 1) / rate
    if job.closed_until is not None and job.closed_until > job.now:
        wait += (job.closed_until - job.now).total_seconds()
    # Written by hand, either may be of no use.
    return job.now + timedelta(seconds=min(wait, FAR))


def _pace(rate: float) -> str:
    if rate >= 1:
        return f"{amount(rate)} jobs per second"
    return f"one job every {duration(1 / rate)}"


def _also_paused(job: Standing, text: str) -> str:
    """Return *text* with the pauses that keep the job once it is over."""
    return " ".join([text, *_pauses(job)])


def _pauses(job: Standing) -> Iterator[str]:
    if job.workflow_paused_at is not None:
        yield "Its workflow is paused."
    if job.queue_paused_at is not None:
        yield f"Its queue {job.queue} is paused."
    if job.task_paused_at is not None:
        yield f"Its task {job.task} is paused."


def _jobs(number: int) -> str:
    if number >= MOST_BEFORE:
        return f"{MOST_BEFORE:,} jobs or more"
    return "1 job" if number == 1 else f"{amount(number)} jobs"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _have(number: int) -> str:
    return "has" if number == 1 else "have"
