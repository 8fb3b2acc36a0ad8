"""Listing jobs by filter, page by page; cancelling and requeueing many by the same filter."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside
from kit.command_line import Cli
from kit.faults import ghost
from kit.waiting import eventually
from kit.web_client import client_of

from pgqueue import InvalidFilterError, JobCancelled, JobFilter, JobNotFoundError, JobStatus, PgQueue
from pgqueue.model.filters import decode_cursor, encode_cursor
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

MANY = 100_000
FILL = """
    insert into pgqueue.job (id, lane, task, arguments, status, completed_at)
    select pgqueue.uuid7(), 1, case when n % 50000 = 0 then 'rare' else 'work' end, '{}', 'succeeded', now()
    from generate_series(1, $1) as n
"""

FILL_READY = (
    "insert into pgqueue.ready (job_id, lane) select gen_random_uuid(), 1 from generate_series(1, $1)"
)


async def everything(pgq: PgQueue, **chosen: Any) -> list[UUID]:
    """Follow the cursors to the end."""
    ids: list[UUID] = []
    cursor: str | None = None
    while True:
        page = await pgq.jobs(**chosen, cursor=cursor)
        ids += [job.id for job in page.jobs]
        cursor = page.cursor
        if cursor is None:
            return ids


@pytest.mark.contract("P4.13")
async def test_jobs_are_listed_newest_first_page_by_page(pgq: PgQueue) -> None:
    handles = await pgq.enqueue_many([pgq.signature("work", number) for number in range(25)])
    # Ids that callers choose are listed too, wherever they stand in the order.
    odd = await pgq.enqueue_by_name("work", options={"id": uuid4()})
    ids = sorted([odd.id, *(handle.id for handle in handles)], reverse=True)

    first = await pgq.jobs(limit=10)
    found = await everything(pgq, limit=10)

    assert [job.id for job in first.jobs] == ids[:10]
    assert first.jobs[0].status is JobStatus.PENDING
    assert found == ids


@pytest.mark.contract("P4.13")
async def test_jobs_enqueued_meanwhile_do_not_shift_pages(pgq: PgQueue) -> None:
    handles = await pgq.enqueue_many([pgq.signature("work", number) for number in range(20)])
    first = await pgq.jobs(limit=10)
    await pgq.enqueue_many([pgq.signature("work", number) for number in range(5)])

    second = await pgq.jobs(limit=10, cursor=first.cursor)

    ids = [job.id for job in (*first.jobs, *second.jobs)]
    assert ids == [handle.id for handle in reversed(handles)]


@pytest.mark.contract("P4.13")
async def test_jobs_are_found_by_status_wherever_they_stand(pgq: PgQueue, db: Connection) -> None:
    by_status = await one_of_each(pgq, db)

    for status, job_id in by_status.items():
        assert await everything(pgq, status=status) == [job_id], status
    mixed = [JobStatus.PENDING, JobStatus.FAILED, JobStatus.RUNNING]
    assert set(await everything(pgq, status=mixed)) == {by_status[each] for each in mixed}
    live = [each for each in JobStatus if not each.is_terminal]
    assert await everything(pgq, status=live, limit=2) == sorted(
        (by_status[each] for each in live), reverse=True
    )
    assert len(await everything(pgq)) == 8


@pytest.mark.contract("P4.13")
@pytest.mark.parametrize("status", [None, "pending"])
async def test_jobs_are_found_by_task_queue_tag_and_key(pgq: PgQueue, status: str | None) -> None:
    await pgq.enqueue_by_name("work", options={"queue": "mail", "tags": ["a", "b"], "key": "k1"})
    wanted = await pgq.enqueue_by_name("other", options={"queue": "files", "tags": ["b", "c"], "key": "k2"})

    for chosen in ({"task": "other"}, {"queue": "files"}, {"tag": "c"}, {"key": "k2"}):
        assert await everything(pgq, status=status, **chosen) == [wanted.id]
    assert len(await everything(pgq, status=status, tag="b")) == 2
    assert await everything(pgq, status=status, task="other", queue="mail") == []


@pytest.mark.contract("P4.13")
@pytest.mark.parametrize("status", [None, "pending"])
async def test_jobs_are_found_by_time_whatever_their_ids(
    pgq: PgQueue, db: Connection, status: str | None
) -> None:
    plain = await pgq.enqueue_by_name("work")
    odd = [await pgq.enqueue_by_name("work", options={"id": UUID(int=number)}) for number in (7, 2**128 - 7)]
    early = await pgq.enqueue_by_name("work", options={"id": uuid4()})
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute(
            "update pgqueue.job set created_at = now() - interval '3 days' where id = $1", early.id
        )
    since = datetime.now(UTC) - timedelta(hours=1)

    late = await everything(pgq, status=status, created_after=since, limit=1)
    before = await everything(pgq, status=status, created_before=since)

    assert late == [odd[1].id, plain.id, odd[0].id]
    assert before == [early.id]


@pytest.mark.contract("P4.13")
@pytest.mark.parametrize("status", [None, "pending"])
async def test_jobs_are_found_by_text_in_their_arguments_but_not_by_secrets(
    pgq: PgQueue, status: str | None
) -> None:
    @pgq.task(redact=["password"])
    async def register(name: str, password: str) -> None: ...

    mia = await register.enqueue(name="Mía O'Neil", password="Mia's secret")
    plain = await pgq.enqueue_by_name("work", {"deep": [{"sku": "XK-7%_"}]}, 42)
    await pgq.enqueue_many([register.s(name="other", password="secret") for _ in range(3)])

    async def found(search: str, limit: int = 1) -> list[UUID]:
        return await everything(pgq, status=status, search=search, limit=limit)

    assert await found("mía o'neil") == [mia.id]
    assert await found("xk-7%_") == await found('"sku":"XK') == await found("42") == [plain.id]
    assert await found("xk-7%x") == []
    # Neither a secret nor a part of it is found, however the pages are cut.
    for limit in (1, 2, 100):
        assert await found("secret", limit) == await found("Mia", limit) == []
    assert (await pgq.job_ids(JobFilter(search="name"))).ids == await found("name")


@pytest.mark.contract("P4.13")
async def test_a_search_stops_in_time_and_its_cursor_goes_on(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    handles = await pgq.enqueue_many([pgq.signature("work", number) for number in range(7)])
    monkeypatch.setattr("pgqueue.client.jobs.FIRST_LOOKS", 2)
    monkeypatch.setattr("pgqueue.client.jobs.SEARCH_TIME", 0.0)

    hasty = await pgq.jobs(search="0", limit=1)
    monkeypatch.setattr("pgqueue.client.jobs.SEARCH_LOOKS", 2)
    monkeypatch.setattr("pgqueue.client.jobs.MAX_LOOKS", 4)
    monkeypatch.setattr("pgqueue.client.jobs.SEARCH_TIME", 60.0)
    first = await pgq.jobs(search="0", limit=1)

    # After one look at two jobs, and after two looks.
    assert (hasty.jobs, hasty.is_cut_short) == (first.jobs, first.is_cut_short) == ([], True)
    assert hasty.cursor == encode_cursor(handles[-2].id)
    assert first.cursor == encode_cursor(handles[-4].id)
    assert await everything(pgq, search="0", limit=1) == [handles[0].id]


async def test_arguments_that_a_codec_hides_cannot_be_searched(dsn: str) -> None:
    class Hiding:
        def encode(self, document: str) -> str:
            return json.dumps(document[::-1])

        def decode(self, stored: str) -> str:
            return str(json.loads(stored))[::-1]

    async with PgQueue(dsn, codec=Hiding()) as pgq:
        with pytest.raises(InvalidFilterError, match="a codec hides them from the database; filter by task"):
            await pgq.jobs(search="x")


@pytest.mark.contract("P4.13")
async def test_jobs_are_found_by_when_they_ended(pgq: PgQueue, db: Connection) -> None:
    old, new, live = [(await pgq.enqueue_by_name("work")).id for _ in range(3)]
    for each in (old, new):
        await pgq.cancel(each)
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute("update pgqueue.job set completed_at = now() - interval '3 days' where id = $1", old)
    since = datetime.now(UTC) - timedelta(hours=1)

    assert await everything(pgq, finished_after=since) == [new]
    assert await everything(pgq, finished_before=since, status="cancelled") == [old]
    assert await everything(pgq, finished_after=since, status="pending") == []
    assert live in await everything(pgq)


@pytest.mark.contract("P4.13")
async def test_jobs_are_counted_by_status_and_filter(pgq: PgQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    @pgq.task(max_retries=0)
    async def work(fails: bool) -> None:
        if fails:
            raise ValueError

    handles = await pgq.enqueue_many([work.s(number < 2) for number in range(5)])
    async with pgq.worker():
        for handle in handles:
            await pgq.wait(handle.id)
    await pgq.enqueue_by_name("other")
    await pgq.enqueue_by_name("other", options={"delay": 60})

    async def counted(**chosen: Any) -> dict[str, tuple[int, bool]]:
        counts = await pgq.count_jobs(JobFilter.of(**chosen))
        return {
            status: (each.jobs, each.is_more) for status, each in counts.items() if each.jobs or each.is_more
        }

    whole = {"succeeded": (3, False), "failed": (2, False), "pending": (1, False), "scheduled": (1, False)}
    assert await counted() == await counted(status="running") == whole
    assert await counted(task="work") == {"succeeded": (3, False), "failed": (2, False)}
    assert await counted(created_before=datetime(2020, 1, 1, tzinfo=UTC)) == {}
    monkeypatch.setattr("pgqueue.client.jobs.MOST_IDS", 4)
    # Of the four newest jobs two have ended; there may be more.
    assert (await counted())["succeeded"] == (2, True)


async def test_a_filter_may_be_passed_as_a_value_or_by_its_fields(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    async def tagged(tag: str) -> UUID:
        return (await work.options(tags=[tag]).enqueue()).id

    one, _ = await tagged("one"), await tagged("other")

    by_value = await pgq.jobs(JobFilter(tag="one"), limit=10)
    by_field = await pgq.jobs(tag="one", limit=10)

    assert [job.id for job in by_value.jobs] == [job.id for job in by_field.jobs] == [one]
    with pytest.raises(InvalidFilterError, match="pass a JobFilter or tag, not both"):
        await pgq.jobs(JobFilter(queue="mail"), tag="one")


@pytest.mark.contract("P4.13")
async def test_a_page_that_finds_little_is_short_and_says_where_to_go_on(
    pgq: PgQueue, db: Connection
) -> None:
    await db.execute(FILL, 50_000)

    first = await pgq.jobs(task="rare")
    found = await everything(pgq, task="rare")

    assert len(found) == 1
    assert first.cursor is not None
    assert len(first.jobs) <= 1


@pytest.fixture
async def haystack(pgq: PgQueue, db: Connection) -> dict[JobStatus, list[UUID]]:
    """Ninety-nine jobs of each way to end, older than 30,000 pending ones; newest first."""

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def fail(number: int) -> None:
        raise ValueError(number)

    failed = await pgq.enqueue_many([fail.s(number) for number in range(99)])
    async with pgq.worker(concurrency=20):
        for job in failed:
            await pgq.wait(job.id)
    cancelled = await pgq.enqueue_many([pgq.signature("later")] * 99)
    for job in cancelled:
        await job.cancel()
    expired = await pgq.enqueue_many([pgq.signature("later")] * 99)
    for job in expired:
        await db.execute("select pgqueue.transition($1, 'expired')", job.id)
    await db.execute("select pgqueue.enqueue('later') from generate_series(1, 30000)")
    by_status = {JobStatus.FAILED: failed, JobStatus.CANCELLED: cancelled, JobStatus.EXPIRED: expired}
    return {status: sorted((job.id for job in jobs), reverse=True) for status, jobs in by_status.items()}


@pytest.mark.contract("W24")
async def test_what_ended_long_ago_is_on_the_first_page(
    pgq: PgQueue, haystack: dict[JobStatus, list[UUID]]
) -> None:
    for status, ids in haystack.items():
        page = await pgq.jobs(status=status, queue="default", limit=100)

        assert [job.id for job in page.jobs] == ids
        assert (page.cursor, page.is_cut_short) == (None, False)
        assert await everything(pgq, status=status, limit=7) == ids
    discarded = haystack[JobStatus.FAILED][::9]
    for job_id in discarded:
        await pgq.discard(job_id)
    requeued = haystack[JobStatus.FAILED][1::9]
    for job_id in requeued:
        await pgq.requeue(job_id)

    assert await everything(pgq, status="failed", limit=10) == [
        job_id for job_id in haystack[JobStatus.FAILED] if job_id not in requeued
    ]
    assert [job.id for job in (await pgq.jobs(status=["failed", "scheduled"], limit=200)).jobs] == [
        job_id for job_id in haystack[JobStatus.FAILED] if job_id not in requeued
    ]


@pytest.mark.contract("W24")
async def test_a_page_that_was_cut_short_says_so_by_every_door(
    pgq: PgQueue, dsn: str, haystack: dict[JobStatus, list[UUID]]
) -> None:
    del haystack
    page = await pgq.jobs(task="fail")
    printed = await Cli(dsn).json("jobs", "--task=fail")
    _, text, _ = await Cli(dsn)("jobs", "--task=fail")
    app = status_app(pgq, local_reading=True)
    async with client_of(app) as client:
        answer = (await client.get("/jobs?task=fail")).json()
        html = (await client.get("/dashboard/jobs?task=fail")).text

    assert (page.jobs, page.is_cut_short) == ([], True)
    assert (printed["jobs"], printed["is_cut_short"], printed["cursor"]) == ([], True, page.cursor)
    assert "the search of this page was cut short; next page: --cursor" in text
    assert (answer["jobs"], answer["is_cut_short"], answer["cursor"]) == ([], True, page.cursor)
    assert "The search was cut short" in html
    assert len(await everything(pgq, task="fail")) == 99


@pytest.mark.contract("P4.13")
async def test_a_page_reads_a_bounded_part_of_a_large_table(pgq: PgQueue, db: Connection) -> None:
    await db.execute(FILL, MANY)
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute(FILL_READY, MANY)

    page = await buffers(pgq, JobFilter(), looks=200)
    terminal = await buffers(pgq, JobFilter(frozenset({JobStatus.SUCCEEDED})), looks=200)
    whole = await buffers(pgq, JobFilter(task="none"), looks=10_000)
    live = await buffers(pgq, JobFilter(frozenset({JobStatus.PENDING})), looks=200)

    searched = await buffers(pgq, JobFilter(search="none"), looks=2_000)
    ended = await buffers(pgq, JobFilter(finished_before=datetime(2020, 1, 1, tzinfo=UTC)), looks=200)
    counted, matching = await buffers_of_count(pgq, 10_000), await buffers_of_count(pgq, 2_000, task="none")

    assert max(page, terminal, ended) < 600
    assert searched < 6_000
    # Without a filter no record is read in vain; with one, each that was looked at.
    assert counted < 70_000
    assert matching < 2 * 2_000 * 20
    # Three or four buffers for each of the ready ones: the way down to its record in each partition.
    assert live < 200 * 40
    assert whole < 30_000


async def buffers(pgq: PgQueue, chosen: JobFilter, *, looks: int) -> int:
    """Return the buffers that one look at a list touches."""

    class Explaining:
        async def fetchrow(self, sql: str, *arguments: Any) -> Any:
            async with inside.database(pgq).acquire() as connection:
                [row] = await connection.fetch(f"explain (analyze, buffers, format json) {sql}", *arguments)
            [explained] = json.loads(row[0])
            plan = explained["Plan"]
            touched: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            return ([], touched, None)

    low, high = UUID(int=0), UUID(int=2**128 - 1)
    explaining: Any = Explaining()
    await inside.store(pgq).list_jobs(explaining, chosen, low, high, looks=looks, limit=100)
    found = await inside.store(pgq).list_jobs(explaining, chosen, low, high, looks=looks, limit=100)
    return found.looked


async def buffers_of_count(pgq: PgQueue, most: int, **chosen: Any) -> int:
    """Return the buffers that counting the jobs of each status touches."""
    touched: list[int] = []

    class Explaining:
        async def fetch(self, sql: str, *arguments: Any) -> Any:
            async with inside.database(pgq).acquire() as connection:
                [row] = await connection.fetch(f"explain (analyze, buffers, format json) {sql}", *arguments)
            [explained] = json.loads(row[0])
            plan = explained["Plan"]
            touched.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
            return []

    explaining: Any = Explaining()
    for _ in range(2):
        await inside.store(pgq).count_jobs(explaining, JobFilter(**chosen), most, is_plain=not chosen)
    return touched[-1]


@given(st.uuids())
def test_a_cursor_leads_on_behind_its_job(reached: UUID) -> None:
    high = decode_cursor(encode_cursor(reached))

    assert (reached.int == 0) if high is None else (high.int == reached.int - 1)


@pytest.mark.parametrize("cursor", ["", "x", "not a cursor", "A" * 23, "ä", 7])
async def test_a_broken_cursor_is_refused(pgq: PgQueue, cursor: Any) -> None:
    with pytest.raises(InvalidFilterError, match="invalid cursor"):
        await pgq.jobs(cursor=cursor)


@pytest.mark.parametrize(
    ("chosen", "match"),
    [
        ({"status": "done"}, "status must be some of .* got 'done'"),
        ({"status": []}, "status must not be empty"),
        ({"task": ""}, "task must be a non-empty string, got ''"),
        ({"tag": 7}, "tag must be a non-empty string, got 7"),
        ({"created_after": datetime(2026, 1, 1)}, "must be a time zone-aware datetime"),  # noqa: DTZ001  # that is the point
        ({"limit": 0}, "limit must be a whole number from 1 to 1000, got 0"),
        ({"limit": 1001}, "limit must be .* got 1001"),
        (
            {
                "created_after": datetime(2026, 1, 2, tzinfo=UTC),
                "created_before": datetime(2026, 1, 1, tzinfo=UTC),
            },
            "must be earlier",
        ),
    ],
)
async def test_a_filter_that_no_job_can_fit_is_refused(pgq: PgQueue, chosen: Any, match: str) -> None:
    with pytest.raises(InvalidFilterError, match=match):
        await pgq.jobs(**chosen)


# Many at once


@pytest.mark.contract("P4.13", "P4.9")
async def test_many_jobs_are_cancelled_by_filter_in_batches(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgqueue.client.jobs.BATCH", 10)
    jobs = await pgq.enqueue_many([pgq.signature("work", options={"queue": "mail"})] * 25)
    later = await pgq.enqueue_by_name("work", options={"queue": "mail", "delay": 3600})
    other = await pgq.enqueue_by_name("work")

    counts = [count async for count in pgq.cancel_many(JobFilter(queue="mail"), reason="wrong list")]

    assert sum(counts) == 26
    assert max(counts) <= 10
    for job in (*jobs, later):
        read = await job.refresh()
        assert (read.status, read.reason) == (JobStatus.CANCELLED, "wrong list")
    assert await other.status() is JobStatus.PENDING


@pytest.mark.contract("P4.13", "P4.9")
async def test_running_jobs_are_cancelled_with_the_others(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None:
        await asyncio.sleep(3600)

    jobs = await pgq.enqueue_many([work.s() for _ in range(4)])
    async with pgq.worker(concurrency=2):
        await eventually(lambda: count_is(pgq, "running", 2))
        counts = [count async for count in pgq.cancel_many(JobFilter(task="work"))]
        for job in jobs:
            with pytest.raises(JobCancelled):
                await job.result(timeout=60)

    assert sum(counts) == 4


@pytest.mark.contract("P4.13", "P4.3")
async def test_jobs_that_are_over_are_requeued_by_filter_and_keep_their_history(
    pgq: PgQueue, db: Connection
) -> None:
    by_status = await one_of_each(pgq, db)
    attempts = await pgq.attempts(by_status[JobStatus.FAILED])

    counts = [
        count async for count in pgq.requeue_many(JobFilter(queue="default"), reason="fixed", actor="ann")
    ]

    assert sum(counts) == 3
    for status in (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED):
        job_id = by_status[status]
        assert (await pgq.get(job_id)).status is JobStatus.PENDING
        acts = [(act.action, act.reason, act.actor) for act in await pgq.actions(job_id)]
        assert ("requeued", "fixed", "ann") in acts
    assert await pgq.attempts(by_status[JobStatus.FAILED]) == attempts
    assert (await pgq.get(by_status[JobStatus.SUCCEEDED])).status is JobStatus.SUCCEEDED


@pytest.mark.contract("P4.13")
async def test_what_has_succeeded_is_requeued_only_if_it_is_named(pgq: PgQueue, db: Connection) -> None:
    by_status = await one_of_each(pgq, db)

    counts = [count async for count in pgq.requeue_many(JobFilter(statuses=frozenset({JobStatus.SUCCEEDED})))]

    read = await pgq.get(by_status[JobStatus.SUCCEEDED])
    assert (sum(counts), read.status, read.has_result) == (1, JobStatus.PENDING, False)


@pytest.mark.contract("P4.13")
async def test_one_job_that_is_over_is_requeued_however_it_ended(pgq: PgQueue, db: Connection) -> None:
    by_status = await one_of_each(pgq, db)

    answers = {
        status: await pgq.requeue(job_id, reason="fixed", actor="ann") for status, job_id in by_status.items()
    }

    assert answers == {status: status.is_terminal for status in by_status}
    for status, job_id in by_status.items():
        if status.is_terminal:
            assert (await pgq.get(job_id)).status is JobStatus.PENDING
            action = (await pgq.actions(job_id))[-1]
            assert (action.action, action.reason, action.actor) == ("requeued", "fixed", "ann")
    with pytest.raises(JobNotFoundError):
        await pgq.requeue(uuid4())


@pytest.mark.contract("P4.13")
async def test_a_filter_that_leaves_nothing_out_needs_to_be_meant(pgq: PgQueue) -> None:
    job = await pgq.enqueue_by_name("work")

    for bulk in (pgq.cancel_many, pgq.requeue_many):
        with pytest.raises(InvalidFilterError, match="pass all=True"):
            async for _ in bulk(JobFilter()):
                pass
    before = await job.status()
    counts = [count async for count in pgq.cancel_many(JobFilter(), all=True)]

    assert (before, counts) == (JobStatus.PENDING, [1])


async def one_of_each(pgq: PgQueue, db: Connection) -> dict[JobStatus, UUID]:
    """Make a job of each status."""

    @pgq.task(max_retries=0)
    async def finish(fails: bool) -> None:
        if fails:
            raise ValueError

    succeeded, failed = await finish.enqueue(fails=False), await finish.enqueue(fails=True)
    async with pgq.worker():
        await succeeded.result(timeout=60)
        await eventually(lambda: count_is(pgq, "failed", 1))
    cancelled, expired, running, blocked = [await pgq.enqueue_by_name("work") for _ in range(4)]
    await cancelled.cancel()
    await db.execute("select pgqueue.transition($1, 'expired')", expired.id)
    await db.execute("select pgqueue.transition($1, 'blocked')", blocked.id)
    async with ghost(pgq) as worker:
        await worker.claim()
    scheduled, pending = (
        await pgq.enqueue_by_name("work", options={"delay": 3600}),
        await pgq.enqueue_by_name("work"),
    )
    return {
        JobStatus.SUCCEEDED: succeeded.id,
        JobStatus.FAILED: failed.id,
        JobStatus.CANCELLED: cancelled.id,
        JobStatus.EXPIRED: expired.id,
        JobStatus.RUNNING: running.id,
        JobStatus.BLOCKED: blocked.id,
        JobStatus.SCHEDULED: scheduled.id,
        JobStatus.PENDING: pending.id,
    }


async def count_is(pgq: PgQueue, status: str, count: int) -> bool:
    return len((await pgq.jobs(status=status)).jobs) == count
