"""What a handler reports of its progress can be read by others, and costs them little."""

from __future__ import annotations

import asyncio
import math
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from httpx import ASGITransport, AsyncClient
from hypothesis import example, given
from hypothesis import strategies as st
from kit import inside
from kit.faults import ghost
from kit.waiting import eventually, has_status

from pgqueue import InvalidProgressError, JobContext, JobHandle, JobStatus, LeaseLostError, PgQueue, Progress
from pgqueue.model.progress import decode_progress, encode_progress
from pgqueue.web import status_app
from pgqueue.worker.services.progress import ProgressWriter

if TYPE_CHECKING:
    from conftest import Connection

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
META = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)
AMOUNTS = st.integers(0, 10**300) | st.floats(0, allow_nan=False, allow_infinity=False)


@pytest.mark.contract("P4.8")
async def test_progress_is_visible_while_the_job_runs_and_after_it_ended(pgq: PgQueue) -> None:
    go_on = asyncio.Event()

    @pgq.task
    async def work(ctx: JobContext) -> None:
        ctx.progress(1, 10, {"file": "a"})
        await go_on.wait()
        ctx.progress(10, 10)

    job = await work.enqueue()
    assert (await job.refresh()).progress is None
    async with pgq.worker():
        await eventually(lambda: has_progress(job, Progress(1, 10, {"file": "a"})))
        during = await job.refresh()
        go_on.set()
        await job.result(timeout=60)
        after = await job.refresh()

    assert during.status is JobStatus.RUNNING
    assert (after.status, after.progress) == (JobStatus.SUCCEEDED, Progress(10, 10, None))
    assert await pgq.attempts(job.id) == []


@pytest.mark.contract("P4.8", "P6.2")
async def test_the_status_endpoint_shows_progress(pgq: PgQueue) -> None:
    @pgq.task
    async def work(ctx: JobContext) -> None:
        ctx.progress(2.5, meta=["half"])

    job = await work.enqueue()
    async with AsyncClient(
        transport=ASGITransport(app=status_app(pgq, local_reading=True)), base_url="http://queue"
    ) as client:
        before = (await client.get(f"/jobs/{job.id}")).json()
        async with pgq.worker():
            await job.result(timeout=60)
        after = (await client.get(f"/jobs/{job.id}")).json()

    assert before["progress"] is None
    assert after["progress"] == {"current": 2.5, "total": None, "meta": ["half"]}


@pytest.mark.contract("P4.8")
async def test_the_last_report_counts_whatever_the_end_and_is_written_before_it(pgq: PgQueue) -> None:
    @pgq.task(default_retry_delay=3600)
    async def work(ctx: JobContext, end: str) -> None:
        for number in range(1000):
            ctx.progress(number, 1000)
        if end != "return":
            raise ValueError

    async with pgq.worker():
        for end, retries, status in [
            ("return", 0, JobStatus.SUCCEEDED),
            ("raise", 0, JobStatus.FAILED),
            ("raise", 1, JobStatus.SCHEDULED),
        ]:
            job = await work.options(max_retries=retries).enqueue(end)
            await eventually(lambda job=job, status=status: has_status(job, status))  # type: ignore[misc]
            assert (await job.refresh()).progress == Progress(999, 1000, None)


@pytest.mark.contract("P4.8")
async def test_many_reports_become_few_writes(pgq: PgQueue, db: Connection) -> None:
    await db.execute(
        """
        create table written (at timestamptz not null default clock_timestamp());
        create function note_write() returns trigger language plpgsql as
            'begin insert into public.written default values; return null; end';
        create trigger note_write after insert or update on pgqueue.progress for each row
            execute function note_write()
        """
    )

    @pgq.task
    async def work(ctx: JobContext) -> None:
        number = 0
        while await db.fetchval("select count(*) < 4 from written"):
            number += 1
            ctx.progress(number)

    job = await work.enqueue()
    async with pgq.worker():
        await job.result(timeout=60)

    # At the database's clock, which a slow machine does not make faster. The last one is the end's.
    times: list[datetime] = [row[0] for row in await db.fetch("select at from written order by at")]
    assert (times[3] - times[0]).total_seconds() > 2 * 0.5


@pytest.mark.contract("P4.8")
async def test_threads_report_too(pgq: PgQueue) -> None:
    go_on = threading.Event()

    @pgq.task
    def work(ctx: JobContext) -> None:
        ctx.progress(1)
        go_on.wait(60)
        ctx.progress(2)

    job = await work.enqueue()
    async with pgq.worker():
        await eventually(lambda: has_progress(job, Progress(1, None, None)))
        go_on.set()
        await job.result(timeout=60)

    assert (await job.refresh()).progress == Progress(2, None, None)


@pytest.mark.contract("P4.8", "P2.17")
async def test_what_another_lease_reports_is_fenced_off(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()
    async with ghost(pgq) as holder:
        await holder.claim()
        report = encode_progress(1, 2, None)

        await inside.store(pgq).report_progress(holder.connection, [(uuid4(), job.id, report)])
        assert (await job.refresh()).progress is None
        await inside.store(pgq).report_progress(holder.connection, [(holder.lease_id, job.id, report)])

    assert (await job.refresh()).progress == Progress(1, 2, None)


@pytest.mark.contract("P4.8", "P2.17")
async def test_a_handler_that_goes_on_after_its_attempt_is_over_can_report_nothing(pgq: PgQueue) -> None:
    contexts: list[JobContext] = []

    @pgq.task
    async def work(ctx: JobContext) -> None:
        ctx.progress(1)
        contexts.append(ctx)

    job = await work.enqueue()
    async with pgq.worker():
        await job.result(timeout=60)
        await eventually(lambda: is_idle(pgq))

        with pytest.raises(LeaseLostError, match="this attempt is over"):
            contexts[0].progress(2)

    assert (await job.refresh()).progress == Progress(1, None, None)


async def test_a_database_that_refuses_reports_ends_neither_job_nor_worker(
    pgq: PgQueue, db: Connection
) -> None:
    await db.execute(
        """
        create function refuse() returns trigger language plpgsql as $$
            begin raise exception 'no room' using errcode = 'disk_full'; end $$;
        create trigger refuse before insert on pgqueue.progress for each row execute function refuse()
        """
    )

    @pgq.task
    async def work(ctx: JobContext) -> str:
        ctx.progress(1)
        return "done"

    async with pgq.worker() as worker:
        assert await (await work.enqueue()).result(timeout=60) == "done"
        assert worker.is_alive


@pytest.mark.contract("W8")
async def test_a_report_that_the_database_refuses_costs_no_other_job_its_own(
    pgq: PgQueue, db: Connection
) -> None:
    await db.execute(
        "alter table pgqueue.progress add constraint refused check (value::text not like '%bad%')"
    )
    jobs = [await pgq.enqueue_by_name("work") for _ in range(3)]
    writer = ProgressWriter(inside.database(pgq), inside.store(pgq))
    async with ghost(pgq) as holder:
        await holder.claim()
        for job, meta in zip(jobs, ("good", "bad", "better"), strict=True):
            writer.report(job.id, holder.lease_id, encode_progress(1, 2, meta))
        writing = asyncio.ensure_future(writer.run())

        async def are_written() -> bool:
            progress = [(await job.refresh()).progress for job in jobs]
            return progress == [Progress(1, 2, "good"), None, Progress(1, 2, "better")]

        await eventually(are_written)
        writing.cancel()


@pytest.mark.contract("P4.8")
@given(AMOUNTS, st.none() | AMOUNTS, META)
@example(1.0, None, [1e308, 1e308])
def test_a_report_is_read_as_it_was_written(current: float, total: float | None, meta: Any) -> None:
    report = encode_progress(current, total, meta)

    assert decode_progress(report) == Progress(current, total, meta)


NONSENSE: list[tuple[Any, Any, Any, str]] = [
    (math.nan, None, None, "current must be .* got nan"),
    (math.inf, None, None, "current must be .* got inf"),
    (-1, None, None, "current must be .* got -1"),
    (True, None, None, "current must be a number, got True"),
    ("1", None, None, "current must be a number, got '1'"),
    (10**400, None, None, "current is too large"),
    (1, -0.5, None, "total must be .* got -0.5"),
    (1, math.nan, None, "total must be .* got nan"),
    (1, 2, object(), "meta cannot be stored as JSON"),
    (1, 2, math.nan, "meta cannot be stored as JSON"),
    (1, 2, {"a": [(1, 2)]}, "meta would not come back from JSON"),
    (1, 2, {1: "a"}, "meta would not come back from JSON"),
    (1, 2, JobStatus.FAILED, "meta would not come back from JSON"),
    (1, 2, "\ud800", "meta cannot be stored as JSON"),
    (1, 2, ["a\0b"], "meta contains a NUL character"),
    (1, 2, "x" * 8191, "meta takes 8,193 bytes as JSON and the limit is 8,192"),
]


@pytest.mark.contract("P4.8")
@pytest.mark.parametrize(("current", "total", "meta", "said"), NONSENSE, ids=lambda value: str(value)[:20])
def test_nonsense_is_an_error_that_says_what_it_is(current: Any, total: Any, meta: Any, said: str) -> None:
    with pytest.raises(InvalidProgressError, match=said):
        encode_progress(current, total, meta)


async def test_what_is_accepted_is_what_the_database_takes(db: Connection) -> None:
    for meta in ["x" * 8190, "\\u0000", '"', "\x7f\u2028", {"a": [1, None, {"b": 1e308}]}]:
        stored = await db.fetchval("select $1::json::text", encode_progress(1, 10**300, meta))

        assert decode_progress(stored) == Progress(1, 10**300, meta)


async def has_progress(job: JobHandle[Any], progress: Progress) -> bool:
    return (await job.refresh()).progress == progress


async def is_idle(pgq: PgQueue) -> bool:
    return not any(worker.running for worker in pgq.workers)
