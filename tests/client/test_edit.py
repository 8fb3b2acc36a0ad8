"""A job that waits is edited: under its lock, with its arguments checked, and told of in its history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from kit.faults import ghost

from pgqueue import (
    InvalidArgumentsError,
    InvalidOptionError,
    JobNotFoundError,
    JobNotWaitingError,
    PgQueue,
    RedactedArgumentsError,
    Task,
    UnknownQueueError,
    chain,
)
from pgqueue.model.ids import new_id

if TYPE_CHECKING:
    from conftest import Connection

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)


@pytest.fixture
def charge(pgq: PgQueue) -> Task[..., int]:
    @pgq.task(redact=["card"])
    async def charge(order: int, card: str = "") -> int:
        return order

    return charge


@pytest.mark.contract("W24")
@pytest.mark.parametrize("delay", [None, 60])
async def test_what_is_edited_is_what_runs_and_the_history_says_it(
    pgq: PgQueue, charge: Task[..., int], delay: float | None
) -> None:
    job = await charge.options(delay=delay).enqueue(1, "4111")

    await pgq.edit(
        job.id,
        queue="slow",
        priority=7,
        arguments={"order": 2, "card": "5222"},
        reason="a typo",
        actor="ann",
    )
    edited = await job.refresh()
    if delay:
        await pgq.run_now(job.id)
    async with pgq.worker(queues=["slow"]):
        result = await job.result(timeout=60)

    assert (edited.queue, edited.priority, edited.arguments["card"]) == ("slow", 7, "5222")
    assert result == 2
    action = (await pgq.actions(job.id))[0]
    assert (action.action, action.actor) == ("edited", "ann")
    assert action.reason == "queue from default to slow, priority from 0 to 7, arguments: a typo"


@pytest.mark.contract("W24")
async def test_a_pending_job_is_put_off_and_a_scheduled_one_moved(
    pgq: PgQueue, charge: Task[..., int]
) -> None:
    pending = await charge.enqueue(1)
    scheduled = await charge.options(delay=60).enqueue(2)

    for job in (pending, scheduled):
        await pgq.edit(job.id, run_at=SOON)

    for job in (pending, scheduled):
        found = await job.refresh()
        assert (found.status, found.next_run_at, found.run_at) == ("scheduled", SOON, SOON)


@pytest.mark.contract("W24")
async def test_a_prefetched_job_runs_with_what_was_edited(pgq: PgQueue, charge: Task[..., int]) -> None:
    job = await charge.enqueue(1)
    async with ghost(pgq) as holder:
        assert await holder.prefetch() == [job.id]
        await pgq.edit(job.id, arguments={"order": 5})
        async with pgq.worker():
            assert await job.result(timeout=60) == 5


@pytest.mark.contract("W24")
async def test_only_a_job_that_waits_is_edited(pgq: PgQueue, charge: Task[..., int], db: Connection) -> None:
    running, ended = await charge.enqueue(1), await charge.enqueue(2)
    async with ghost(pgq) as holder:
        await holder.claim()
        await holder.store.finish(holder.connection, holder.lease_id, holder.name, [ended.id], None)

        for job, status in ((running, "running"), (ended, "succeeded")):
            with pytest.raises(JobNotWaitingError, match=f"is {status}: a job can only be changed while"):
                await pgq.edit(job.id, priority=3)
    with pytest.raises(JobNotFoundError):
        await pgq.edit(new_id(), priority=3)
    assert await db.fetchval("select count(*) from pgqueue.action") == 0


@pytest.mark.contract("W24")
async def test_what_a_limit_or_the_jobs_before_it_decide_is_not_edited(pgq: PgQueue, dsn: str) -> None:
    @pgq.task(limits=[pgq.limit("tenant", slots=1).by("name")])
    async def limited(name: str) -> None: ...

    @pgq.task
    async def link(name: str) -> str:
        return name

    held = await limited.options(delay=60).enqueue("acme")
    flow = await chain(link.s("a"), link.s()).enqueue()
    [behind] = [each for each in (await pgq.workflow_jobs(flow.workflow_id)).jobs if each.status == "blocked"]
    let_through = await limited.enqueue("other")
    refused: list[tuple[Any, dict[str, Any], str]] = [
        (let_through.id, {"run_at": SOON}, "has been let through by a limit"),
        (behind.id, {"arguments": {"name": "b"}}, "from the results of the jobs before it"),
        (behind.id, {"run_at": SOON}, "starts when these have ended"),
    ]
    for job_id, changes, said in refused:
        with pytest.raises(InvalidOptionError, match=f"{said}.*; cancel it and enqueue another one"):
            await pgq.edit(job_id, **changes)
        assert await pgq.actions(job_id) == []
    async with PgQueue(dsn) as other:
        with pytest.raises(InvalidOptionError, match=r"its task is not declared here; cancel it"):
            await other.edit(held.id, arguments={"name": "b"})
    assert await pgq.actions(held.id) == []
    await pgq.edit(held.id, priority=4, run_at=SOON)
    await pgq.edit(behind.id, priority=4)
    assert (await pgq.get(held.id)).next_run_at == SOON


async def test_what_is_invalid_is_refused_and_changes_nothing(
    pgq: PgQueue, charge: Task[..., int], db: Connection
) -> None:
    job = await charge.enqueue(1, "4111")
    refused: list[tuple[type[Exception], dict[str, Any]]] = [
        (InvalidOptionError, {}),
        (InvalidOptionError, {"queue": ""}),
        (InvalidOptionError, {"priority": 2**20}),
        (InvalidOptionError, {"run_at": datetime(2026, 1, 1)}),  # noqa: DTZ001  # that is the point
        (InvalidArgumentsError, {"arguments": {"order": "many"}}),
        (InvalidArgumentsError, {"arguments": {}}),
        (RedactedArgumentsError, {"arguments": {"order": 1, "card": "[redacted]"}}),
    ]
    for error, changes in refused:
        with pytest.raises(error):
            await pgq.edit(job.id, **changes)

    assert (await job.refresh()).arguments == {"order": 1, "card": "4111"}
    assert await db.fetchval("select count(*) from pgqueue.action") == 0


async def test_a_queue_that_is_not_declared_is_refused_where_they_must_be(dsn: str) -> None:
    async with PgQueue(dsn, strict_queues=True) as pgq:
        pgq.queue("mail")
        job = await pgq.enqueue_by_name("work", options={"queue": "mail"})
        with pytest.raises(UnknownQueueError, match="edit: queue 'mial' is not declared"):
            await pgq.edit(job.id, queue="mial")
