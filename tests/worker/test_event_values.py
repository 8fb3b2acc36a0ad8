"""Events are values: an observer may keep one and read it when it likes."""

from __future__ import annotations

from typing import TypeVar

from kit.waiting import eventually

from pgqueue import JobStatus, PgQueue
from pgqueue.events import AttemptsEnded, Event, JobsClaimed, JobsStarted

E = TypeVar("E", bound=Event)


def read(event: Event) -> object:
    """Return all that *event* tells."""
    match event:
        case JobsClaimed():
            return event.waited, dict(event.waits), dict(event.by_queue)
        case JobsStarted():
            return event.jobs
        case AttemptsEnded():
            return event.attempts, dict(event.by_queue), event.is_success
        case _:
            raise AssertionError(event)


async def test_an_event_reads_the_same_after_its_observer_has_returned(pgq: PgQueue) -> None:
    kept: list[Event] = []
    read_at_once: list[object] = []
    pgq.observe(kept.append, JobsClaimed, JobsStarted, AttemptsEnded)
    pgq.observe(lambda event: read_at_once.append(read(event)), JobsClaimed, JobsStarted, AttemptsEnded)

    @pgq.task(queue="mail", max_retries=0)
    async def send(number: int) -> int:
        if number % 5 == 0:
            raise ValueError(number)
        return number

    @pgq.task(queue="reports")
    async def build() -> None: ...

    jobs = [await send.enqueue(number) for number in range(20)] + [await build.enqueue()]
    async with pgq.worker():

        async def are_over() -> bool:
            return all([(await job.status()).is_terminal for job in jobs])

        await eventually(are_over)

    assert [read(event) for event in kept] == read_at_once
    ids = {job.id for job in jobs}
    assert sum(len(event.waited) for event in of_kind(kept, JobsClaimed)) == len(jobs)
    assert {job.job_id for event in of_kind(kept, JobsStarted) for job in event.jobs} == ids
    ended = {each.job_id: each for event in of_kind(kept, AttemptsEnded) for each in event.attempts}
    assert {job_id for job_id, each in ended.items() if each.status is JobStatus.FAILED} == {
        job.id for job in jobs[:20:5]
    }
    assert (ended[jobs[0].id].queue, ended[jobs[-1].id].queue) == ("mail", "reports")


def of_kind(events: list[Event], kind: type[E]) -> list[E]:
    """Return the events of one kind."""
    return [event for event in events if isinstance(event, kind)]
