"""What becomes of the workflows of a job when the job ends, and of waits while a workflow is paused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kit.waiting import eventually

from pgqueue import JobContext, JobFailed, JobStatus, PgQueue, chain, group
from pgqueue.tasks.workflow_handle import WorkflowHandle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from conftest import Connection

    from pgqueue.tasks.handle import JobHandle

WITHIN = 60.0
DAYS = 3 * 86400


class Family:
    """Jobs that start others, three generations of them, the last of which wait."""

    def __init__(self, pgq: PgQueue) -> None:
        @pgq.task(max_retries=0)
        async def leaf(ctx: JobContext) -> str:
            await ctx.sleep("nap", DAYS)
            return "slept"

        @pgq.task(max_retries=0)
        async def middle(ctx: JobContext) -> list[str]:
            return await ctx.run("leaves", group(leaf.s(), leaf.s()))

        @pgq.task(max_retries=0)
        async def parent(ctx: JobContext, way: str) -> Any:
            child = await ctx.start("child", chain(middle.s(), middle.si()), detached=way == "detached")
            if way == "fails":
                raise ValueError("no")
            if way == "succeeds":
                return "done"
            if way == "sleeps":
                await ctx.sleep("nap", DAYS)
            return await ctx.wait(child)

        self.parent = parent


async def statuses(db: Connection, task: str) -> list[tuple[str | None, str | None]]:
    """Return the status and the reason of each job of a task."""
    return [
        (row["status"], row["reason"])
        for row in await db.fetch(
            "select status::text, reason from pgqueue.jobs where task = $1 order by id", task
        )
    ]


@pytest.mark.contract("P7.21", "P7.19")
@pytest.mark.parametrize("way", ["waits", "sleeps", "in a chain", "detached", "fails", "succeeds"])
async def test_the_workflows_of_a_job_are_cancelled_with_it_and_with_nothing_else(
    pgq: PgQueue, db: Connection, way: str
) -> None:
    family = Family(pgq)
    job: JobHandle[Any] | WorkflowHandle[Any]
    async with pgq.worker(concurrency=1):
        if way == "in a chain":
            job = await chain(family.parent.s(way), family.parent.si(way)).enqueue()
        else:
            job = await family.parent.enqueue(way)

        async def leaves_wait() -> bool:
            return len([each for each in await statuses(db, "leaf") if each[0] == "blocked"]) == 2

        await eventually(leaves_wait)
        if way == "fails":
            with pytest.raises(JobFailed):
                await job.result(timeout=WITHIN)
        elif way == "succeeds":
            await job.result(timeout=WITHIN)
        await job.cancel()

        async def is_over() -> bool:
            return {each[0] for task in ("leaf", "middle") for each in await statuses(db, task)} == {
                "cancelled"
            }

        if way in {"waits", "sleeps", "in a chain"}:
            await eventually(is_over)
            assert set(await statuses(db, "leaf")) == {("cancelled", "parent_ended")}
        else:
            await eventually(lambda: no_notes(db))
            assert await leaves_wait()


async def no_notes(db: Connection) -> bool:
    """Whether all that has ended was attended to."""
    return bool(await db.fetchval("select count(*) from pgqueue.note") == 0)


@pytest.mark.contract("P7.21", "P5.7")
async def test_a_redriven_parent_starts_another_child_and_one_that_is_redriven_at_once_keeps_it(
    pgq: PgQueue, db: Connection
) -> None:
    family = Family(pgq)
    job = await family.parent.enqueue("waits")

    async def is_waiting() -> bool:
        return await job.status() is JobStatus.BLOCKED

    async with pgq.worker(concurrency=1):
        await eventually(is_waiting)
    # Nobody attends to it in between.
    await job.cancel()
    await pgq.requeue(job.id)
    async with pgq.worker(concurrency=1):
        await eventually(is_waiting)
        await eventually(lambda: no_notes(db))
        assert await db.fetchval("select count(*) from pgqueue.workflow where parent_job = $1", job.id) == 1
        await job.cancel()

        async def is_over() -> bool:
            return {status for status, _ in await statuses(db, "middle")} == {"cancelled"}

        await eventually(is_over)
        await pgq.requeue(job.id)
        await eventually(is_waiting)
        assert await db.fetchval("select count(*) from pgqueue.workflow where parent_job = $1", job.id) == 2


@pytest.mark.contract("P7.21")
async def test_any_number_of_children_is_cancelled_with_its_parent(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(queue="nobody's")
    async def leaf() -> None: ...

    @pgq.task
    async def parent(ctx: JobContext) -> None:
        await ctx.run("children", group(*(leaf.s() for _ in range(2_000))))

    job = await parent.enqueue()

    async def is_waiting() -> bool:
        return await job.status() is JobStatus.BLOCKED

    async with pgq.worker(queues=["default"]):
        await eventually(is_waiting)
        await job.cancel()

        async def is_over() -> bool:
            return bool(await db.fetchval("select count(*) from pgqueue.job where status is null") == 0)

        await eventually(is_over)


@pytest.mark.contract("P7.25")
@pytest.mark.parametrize("wait", ["time", "event", "event in a transaction", "child", "at once"])
async def test_a_wait_that_is_over_stays_held_until_its_workflow_is_resumed(
    pgq: PgQueue, db: Connection, wait: str
) -> None:
    runs: list[str] = []

    @pgq.task(queue="later")
    async def leaf() -> int:
        return 1

    async def wait_now(ctx: JobContext) -> None:
        await pgq.pause_workflow(handle.workflow_id)
        await ctx.sleep("nap", 0.05)

    @pgq.task
    async def work(ctx: JobContext) -> int | None:
        runs.append(wait)
        ways: dict[str, Callable[[], Awaitable[int | None]]] = {
            "time": lambda: ctx.sleep("nap", DAYS),
            "child": lambda: ctx.run("child", leaf.s()),
            "at once": lambda: wait_now(ctx),
        }
        await ways.get(wait, lambda: ctx.wait_for_event("go", int))()
        return 1

    handle = await group(work.s()).enqueue()
    job_id = await db.fetchval("select id from pgqueue.job")

    async def is_waiting() -> bool:
        return bool(await db.fetchval("select count(*) from pgqueue.blocked where job_id = $1", job_id) == 1)

    async with pgq.worker(queues=["default"]):
        await eventually(is_waiting)
        await pgq.pause_workflow(handle.workflow_id)
        if wait == "time":
            await db.execute(
                "set pgqueue.writer to 'on';"
                "update pgqueue.step set result = to_json(now()) where name = 'nap/until';"
                "update pgqueue.blocked set wake_at = now()"
            )
        elif wait == "event":
            assert await pgq.signal(job_id, "go", 1)
        elif wait == "event in a transaction":
            async with db.transaction():
                assert await pgq.signal(job_id, "go", 1, connection=db)

        async def is_over() -> bool:
            return bool(
                await db.fetchval(
                    "select true from pgqueue.blocked where job_id = $1 and (is_due or exists ("
                    "select from pgqueue.edge where downstream = job_id and outcome = 'succeeded'))",
                    job_id,
                )
            )

        async with pgq.worker(queues=["later"]):
            await eventually(is_over)
        assert await is_waiting()
        assert len(runs) == 1
        await pgq.resume_workflow(handle.workflow_id)
        assert await handle.result(timeout=WITHIN) == [1]
    assert len(runs) == 2
