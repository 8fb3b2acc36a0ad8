"""A job is durable, and its id known, when enqueue returns; or nothing was written."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid4

import anyio
import asyncpg
import pytest
from kit import inside
from kit.faults import until_blocked
from kit.lines import declare_work, line_to
from kit.waiting import eventually

from pgqueue import (
    DatabaseUnavailableError,
    DuplicateJobError,
    InvalidArgumentsError,
    JobNotFoundError,
    JobStatus,
    NotOpenError,
    PgQueue,
    RefusedByDatabaseError,
    UnknownQueueError,
    UnknownTaskError,
)
from pgqueue.enqueueing.batch import CHUNK

if TYPE_CHECKING:
    from conftest import Connection

COUNT = "select count(*) from pgqueue.job"
PLACES = "select (select count(*) from pgqueue.ready) + (select count(*) from pgqueue.scheduled)"


# At once


@pytest.mark.contract("P1.1", "P1.2", "BP1")
async def test_enqueue_returns_a_handle_of_a_pending_job_with_no_worker_anywhere(pgq: PgQueue) -> None:
    work = declare_work(pgq)

    job = await work.enqueue(1)

    assert isinstance(job.id, UUID)
    assert (await pgq.get(job.id)).id == job.id
    assert await job.status() is JobStatus.PENDING


@pytest.mark.contract("P1.1")
async def test_a_job_is_there_for_others_when_enqueue_returns(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)

    job = await work.enqueue(1)

    assert await db.fetchval("select status::text from pgqueue.jobs where id = $1", job.id) == "pending"


@pytest.mark.contract("P1.2")
@pytest.mark.parametrize("refused", ["job", "ready"])
async def test_neither_record_nor_queue_entry_exists_without_the_other(
    pgq: PgQueue, db: Connection, refused: str
) -> None:
    work = declare_work(pgq)
    await db.execute(
        f"""
        create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'refused'; end $$;
        create trigger refuse after insert on pgqueue.{refused} for each row execute function refuse()
        """
    )

    with pytest.raises(RefusedByDatabaseError, match="refused"):
        await work.enqueue(1)

    assert await db.fetchval(COUNT) == 0
    assert await db.fetchval(PLACES) == 0


@pytest.mark.contract("BP1")
async def test_enqueue_leaves_the_loop_to_others_while_the_database_is_slow(
    pgq: PgQueue, db: Connection
) -> None:
    work = declare_work(pgq)
    await work.enqueue(0)

    async with anyio.create_task_group() as group, db.transaction():
        await db.execute("lock table pgqueue.ready in access exclusive mode")
        group.start_soon(work.enqueue, 1)

        async def is_waiting() -> bool:
            return await db.fetchval("select exists (select from pg_locks where not granted)") is True

        # This loop goes on turning: it asks, over and over, while the enqueue waits for the lock.
        await eventually(is_waiting)
        assert await db.fetchval(COUNT) == 1

    assert await db.fetchval(COUNT) == 2


@pytest.mark.contract("BP1")
async def test_many_enqueues_go_on_at_once(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)

    jobs = await asyncio.gather(*(work.enqueue(number) for number in range(100)))

    assert len({job.id for job in jobs}) == 100
    assert await db.fetchval(COUNT) == 100


@pytest.mark.contract("BP1")
async def test_an_enqueue_that_waits_holds_up_no_other(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    other = work.options(connection=db, idempotency_key="taken")

    async with anyio.create_task_group() as group, db.transaction():
        await other.enqueue(0)
        group.start_soon(work.options(idempotency_key="taken").enqueue, 0)
        await until_blocked(pgq, "take_keys")
        await work.enqueue(1)

    assert await db.fetchval(COUNT) == 2


@pytest.mark.contract("P1.5")
async def test_an_enqueue_that_is_cancelled_leaves_the_next_one_alone(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    await work.enqueue(0)

    async with db.transaction():
        await db.execute("lock table pgqueue.ready in access exclusive mode")
        waiting = asyncio.create_task(work.enqueue(1))
        await until_blocked(pgq, "enqueue_one")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    # Whether the first one's job is there is for the server to say: it was cancelled on its way.
    job = await work.enqueue(2)
    assert await job.status() is JobStatus.PENDING


@pytest.mark.contract("P1.5")
async def test_an_enqueue_that_is_under_way_is_finished_before_the_pgqueue_is_closed(
    dsn: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgqueue.database.pool.CLOSE_WITHIN", 60)
    pgq = PgQueue(dsn)
    work = declare_work(pgq)
    await pgq.open()

    async with anyio.create_task_group() as group, db.transaction():
        await db.execute("lock table pgqueue.ready in access exclusive mode")
        group.start_soon(work.enqueue, 1)
        await until_blocked(pgq, "enqueue_one")
        group.start_soon(pgq.close)
        await eventually(lambda: has_begun_to_close(pgq))

    assert await db.fetchval(COUNT) == 1


async def has_begun_to_close(pgq: PgQueue) -> bool:
    return not inside.has_pool(pgq)


# Bad calls


@pytest.mark.contract("P1.4")
async def test_a_queue_that_is_not_declared_is_refused_by_a_strict_pgqueue(dsn: str, db: Connection) -> None:
    async with PgQueue(dsn, strict_queues=True) as pgq:
        pgq.queue("mail")
        work = declare_work(pgq)

        with pytest.raises(UnknownQueueError, match=r"task 'work': queue 'mial' .*default, mail"):
            await work.options(queue="mial").enqueue(1)
        with pytest.raises(UnknownQueueError, match="task 'elsewhere': queue 'mial'"):
            await pgq.enqueue_by_name("elsewhere", options={"queue": "mial"})
        assert await db.fetchval(COUNT) == 0

        await work.options(queue="mail").enqueue(1)
        await work.enqueue(2)

    assert await db.fetchval(COUNT) == 2


@pytest.mark.contract("P1.4")
@pytest.mark.parametrize("name", ["", "a\0b", None, 7])
async def test_a_task_name_that_cannot_be_one_is_refused(pgq: PgQueue, db: Connection, name: Any) -> None:
    with pytest.raises(UnknownTaskError, match="is not the name of a task"):
        await pgq.enqueue_by_name(name)

    assert await db.fetchval(COUNT) == 0


async def test_a_pgqueue_that_is_not_open_says_so(dsn: str) -> None:
    pgq = PgQueue(dsn)
    work = declare_work(pgq)

    with pytest.raises(NotOpenError, match="async with pgq"):
        await work.enqueue(1)
    with pytest.raises(NotOpenError, match="async with pgq"):
        await pgq.get(uuid4())
    with pytest.raises(NotOpenError, match="async with pgq"):
        pgq.worker()


# Ids of the caller's choice


@pytest.mark.contract("P1.6")
async def test_a_chosen_id_is_the_jobs_id(pgq: PgQueue) -> None:
    work = declare_work(pgq)
    chosen = uuid4()

    job = await work.options(id=chosen).enqueue(1)

    assert (job.id, job.created) == (chosen, True)
    assert (await pgq.get(chosen)).arguments == {"number": 1}


@pytest.mark.contract("P1.6")
async def test_an_id_that_exists_gives_the_existing_job(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    chosen = uuid4()
    await work.options(id=chosen).enqueue(1)

    again = await work.options(id=chosen).enqueue(2)

    assert (again.id, again.created) == (chosen, False)
    assert (await again.refresh()).arguments == {"number": 1}
    assert await db.fetchval(COUNT) == 1


@pytest.mark.contract("P1.6")
async def test_an_id_that_exists_is_an_error_where_that_is_asked_for(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    chosen = uuid4()
    await work.options(id=chosen).enqueue(1)

    with pytest.raises(DuplicateJobError, match=f"job {chosen} already exists") as raised:
        await work.options(id=chosen, on_duplicate="raise").enqueue(2)

    assert raised.value.job_id == chosen
    assert await db.fetchval(COUNT) == 1


@pytest.mark.contract("P1.6")
async def test_a_hundred_callers_of_one_id_make_one_job(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    chosen = uuid4()
    calls = work.options(id=chosen)

    jobs = await asyncio.gather(*(calls.enqueue(number) for number in range(100)))

    assert {job.id for job in jobs} == {chosen}
    assert sum(job.created for job in jobs) == 1
    assert await db.fetchval(COUNT) == 1


@pytest.mark.contract("P1.6")
async def test_of_many_callers_that_insist_on_an_id_one_succeeds(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    calls = work.options(id=uuid4(), on_duplicate="raise")

    ends = await asyncio.gather(*(calls.enqueue(number) for number in range(20)), return_exceptions=True)

    assert sum(isinstance(end, DuplicateJobError) for end in ends) == 19
    assert await db.fetchval(COUNT) == 1


@pytest.mark.contract("P1.6")
async def test_an_id_twice_in_one_bulk_call_is_one_job(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    chosen = uuid4()

    handles = await pgq.enqueue_many([work.options(id=chosen).s(1), work.s(2), work.options(id=chosen).s(3)])

    assert [handle.created for handle in handles] == [True, True, False]
    assert handles[0].id == handles[2].id == chosen
    assert await db.fetchval(COUNT) == 2
    with pytest.raises(DuplicateJobError):
        await pgq.enqueue_many([work.s(4), work.options(id=chosen, on_duplicate="raise").s(5)])
    assert await db.fetchval(COUNT) == 2


# Many


@pytest.mark.contract("P1.7")
async def test_a_bulk_call_of_ten_thousand_gives_handles_in_order(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)

    handles = await pgq.enqueue_many(work.s(number) for number in range(10_000))

    assert await db.fetchval(COUNT) == 10_000
    rows = await db.fetch("select id, (arguments ->> 'number')::int as number from pgqueue.job")
    numbers = {row["id"]: row["number"] for row in rows}
    assert [numbers[handle.id] for handle in handles] == list(range(10_000))


@pytest.mark.contract("P1.7")
async def test_a_bulk_call_with_a_wrong_one_writes_none(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    wrong: Any = "many"
    calls = [*(work.s(number) for number in range(CHUNK + 10)), work.s(wrong)]

    with pytest.raises(InvalidArgumentsError, match="task 'work'"):
        await pgq.enqueue_many(calls)

    assert await db.fetchval(COUNT) == 0


@pytest.mark.contract("P1.7")
async def test_a_bulk_call_that_the_database_refuses_in_its_middle_writes_none(
    pgq: PgQueue, db: Connection
) -> None:
    work = declare_work(pgq)
    taken = await work.enqueue(0)
    calls = [work.s(number) for number in range(3 * CHUNK)]
    calls.insert(2 * CHUNK, work.options(id=taken.id, on_duplicate="raise").s(1))

    with pytest.raises(DuplicateJobError):
        await pgq.enqueue_many(calls)

    assert await db.fetchval(COUNT) == 1
    assert await db.fetchval(PLACES) == 1


@pytest.mark.contract("P1.7")
async def test_a_bulk_call_whose_second_statement_fails_writes_none(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)
    await db.execute(
        f"""
        create function refuse() returns trigger language plpgsql as $$ begin
            if new.arguments ->> 'number' = '{CHUNK + 5}' then raise exception 'refused'; end if;
            return new;
        end $$;
        create trigger refuse before insert on pgqueue.job for each row execute function refuse()
        """
    )

    with pytest.raises(RefusedByDatabaseError, match="refused"):
        await pgq.enqueue_many([work.s(number) for number in range(CHUNK + 10)])

    assert await db.fetchval(COUNT) == 0
    assert await db.fetchval(PLACES) == 0


@pytest.mark.contract("P1.7")
async def test_no_calls_touch_no_database(dsn: str) -> None:
    never_opened = PgQueue("postgresql://nowhere.invalid/none")

    assert await never_opened.enqueue_many([]) == []
    assert await never_opened.enqueue_many(iter(())) == []


@pytest.mark.contract("P1.7", "P1.10")
async def test_each_of_many_calls_has_its_own_options(pgq: PgQueue) -> None:
    work = declare_work(pgq)

    @pgq.task(queue="mail", priority=5)
    async def send() -> None: ...

    soon = datetime.now(UTC) + timedelta(days=1)
    handles = await pgq.enqueue_many(
        [
            work.s(1),
            work.options(queue="slow", priority=-1, tags=["a"]).s(2),
            send.s(),
            work.options(run_at=soon).s(3),
            pgq.signature("elsewhere", 7, options={"queue": "far", "key": "k"}),
        ]
    )

    jobs = [await handle.refresh() for handle in handles]
    assert [job.queue for job in jobs] == ["default", "slow", "mail", "default", "far"]
    assert [job.priority for job in jobs] == [0, -1, 5, 0, 0]
    assert [job.task for job in jobs] == ["work", "work", "send", "work", "elsewhere"]
    assert jobs[1].tags == ("a",)
    assert (jobs[3].status, jobs[3].next_run_at) == (JobStatus.SCHEDULED, soon)
    assert jobs[4].key == "k"


# By name, and from SQL


@pytest.mark.contract("P1.11")
async def test_a_job_enqueued_by_name_runs_where_its_code_is(dsn: str, pgq: PgQueue) -> None:
    @pgq.task
    async def describe(name: str, count: int, *, tone: str = "plain") -> str:
        return f"{name} {count} {tone}"

    async with PgQueue(dsn) as stranger, pgq.worker():
        by_position = await stranger.enqueue_by_name("describe", "x", 2)
        by_name = await stranger.enqueue_by_name("describe", name="y", count=3, tone="loud")
        mixed = await stranger.enqueue_by_name("describe", "z", count=4, options={"priority": 3})

        assert await by_position.result(timeout=60) == "x 2 plain"
        assert await by_name.result(timeout=60) == "y 3 loud"
        assert await mixed.result(timeout=60) == "z 4 plain"
        assert (await mixed.refresh()).priority == 3


@pytest.mark.contract("P1.11")
async def test_a_task_known_here_is_checked_when_enqueued_by_name(pgq: PgQueue, db: Connection) -> None:
    declare_work(pgq)

    with pytest.raises(InvalidArgumentsError, match="task 'work'"):
        await pgq.enqueue_by_name("work", "many")

    assert await db.fetchval(COUNT) == 0


@pytest.mark.contract("P1.11")
async def test_a_job_enqueued_from_sql_runs(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def add(a: int, b: int = 10) -> int:
        return a + b

    async with pgq.worker():
        by_name = await db.fetchval("""select pgqueue.enqueue('add', '{"a": 1, "b": 2}')""")
        by_position = await db.fetchval("select pgqueue.enqueue('add', '[5]')")
        later = await db.fetchval(
            "select pgqueue.enqueue('add', '[7]', priority => 3, delay => '0.1 s', tags => '{t}', key => 'k')"
        )

        assert await pgq.handle(by_name).result(timeout=60) == 3
        assert await pgq.handle(by_position).result(timeout=60) == 15
        assert await pgq.handle(later).result(timeout=60) == 17
    job = await pgq.get(later)
    assert (job.priority, job.tags, job.key) == (3, ("t",), "k")


@pytest.mark.contract("P1.11")
async def test_enqueue_from_sql_is_part_of_the_transaction(pgq: PgQueue, db: Connection) -> None:
    transaction = db.transaction()
    await transaction.start()
    job_id = await db.fetchval("select pgqueue.enqueue('add')")
    await transaction.rollback()

    with pytest.raises(JobNotFoundError):
        await pgq.get(job_id)


@pytest.mark.contract("P1.11", "P1.6")
async def test_enqueue_from_sql_makes_a_new_queue_and_takes_a_chosen_id(pgq: PgQueue, db: Connection) -> None:
    chosen = uuid4()

    await db.execute("select pgqueue.enqueue('add', queue => 'new', id => $1)", chosen)

    assert (await pgq.get(chosen)).queue == "new"
    with pytest.raises(asyncpg.UniqueViolationError):
        await db.execute("select pgqueue.enqueue('add', queue => 'new', id => $1)", chosen)


@pytest.mark.contract("P1.11", "P1.4")
@pytest.mark.parametrize(
    "call",
    [
        "select pgqueue.enqueue('')",
        "select pgqueue.enqueue(null)",
        "select pgqueue.enqueue('add', '5')",
        "select pgqueue.enqueue('add', 'null')",
        "select pgqueue.enqueue('add', null)",
        "select pgqueue.enqueue('add', queue => '')",
        "select pgqueue.enqueue('add', priority => 40000)",
    ],
)
async def test_a_bad_enqueue_from_sql_is_refused(db: Connection, call: str) -> None:
    with pytest.raises(asyncpg.DataError):
        await db.execute(call)

    assert await db.fetchval(COUNT) == 0


# Later


@pytest.mark.contract("P1.12")
@pytest.mark.parametrize("delay", [timedelta(days=200 * 366), timedelta(days=900 * 366)])
async def test_a_delay_may_be_centuries(pgq: PgQueue, delay: timedelta) -> None:
    work = declare_work(pgq)

    job = await (await work.options(delay=delay).enqueue(1)).refresh()

    assert job.status is JobStatus.SCHEDULED
    assert job.run_at is not None
    assert job.run_at - job.created_at == delay
    assert job.next_run_at == job.run_at


@pytest.mark.contract("P1.12")
@pytest.mark.parametrize(
    "options",
    [
        {"run_at": datetime(1970, 1, 1, tzinfo=UTC)},
        {"run_at": datetime(1, 1, 2, tzinfo=UTC)},
        {"delay": -5.0},
        {"delay": 0},
        {"delay": timedelta(days=-10_000)},
    ],
)
async def test_a_time_in_the_past_is_now(pgq: PgQueue, options: Any) -> None:
    work = declare_work(pgq)

    job = await work.options(**options).enqueue(1)
    assert await job.status() is JobStatus.PENDING

    async with pgq.worker():
        assert await job.result(timeout=60) == 1


@pytest.mark.contract("P1.12")
async def test_no_job_starts_before_its_time(pgq: PgQueue) -> None:
    work = declare_work(pgq)

    async with pgq.worker():
        handles = await pgq.enqueue_many(
            [work.options(delay=0.03 * number).s(number) for number in range(20)]
        )
        for handle in handles:
            await handle.result(timeout=60)

    for handle in handles:
        job = await handle.refresh()
        assert job.run_at is not None
        assert job.started_at is not None
        assert job.started_at >= job.run_at


@pytest.mark.contract("P1.12")
async def test_the_end_of_the_calendar_is_a_time_that_does_not_come(pgq: PgQueue) -> None:
    work = declare_work(pgq)

    job = await work.options(run_at=datetime(9999, 12, 30, tzinfo=UTC)).enqueue(1)
    now = await work.enqueue(2)

    async with pgq.worker():
        assert await now.result(timeout=60) == 2
        assert await job.status() is JobStatus.SCHEDULED


FLAWS = {
    "run_at => 'infinity'": "would start at infinity",
    "run_at => '-infinity'": "would start at -infinity",
    "run_at => '20000-01-01'": "would start at .*20000",
    "run_at => '0044-03-15 BC'": "would start at",
    "delay => interval '20000 years'": "would start at|out of range",
    "expires_at => 'infinity'": "would expire at infinity",
    "expires_at => '9999-12-31T12:00Z'": "would expire at",
    "tags => array_fill('x'::text, array[101])": "has 101 tags",
    "tags => array[null]": "each tag",
    "tags => array['']": "each tag",
    "tags => array[repeat('x', 513)]": "each tag",
    "key => ''": "the key has 0",
    "key => repeat('x', 513)": "the key has 513",
    "queue => repeat('x', 201)": "queue has 201",
    "task => repeat('x', 256)": "task has 256",
    "priority => 40000": "out of range",
    "idempotency_key => 'k', idempotency_scope => 'tenant:' || repeat('x', 510)": "scope has",
}


@pytest.mark.contract("W9", "P1.12", "P1.11")
@pytest.mark.parametrize("flawed", FLAWS)
async def test_what_python_could_not_read_back_is_refused_in_sql(flawed: str, db: Connection) -> None:
    task = "" if flawed.startswith("task") else "'work', "

    with pytest.raises(asyncpg.DataError, match=FLAWS[flawed]):
        await db.fetchval(f"select pgqueue.enqueue({task}{flawed})")

    assert await db.fetchval("select count(*) from pgqueue.job") == 0


@pytest.mark.contract("P1.12", "P1.11")
async def test_a_time_in_sql_may_be_one_that_does_not_come(pgq: PgQueue, db: Connection) -> None:
    work = declare_work(pgq)

    never = await db.fetchval("select pgqueue.enqueue('work', '[1]', run_at => '9999-12-30T00:00Z')")

    async with pgq.worker():
        soon = await work.options(delay=0.05).enqueue(2)
        assert await soon.result(timeout=60) == 2
        assert (await pgq.get(never)).status is JobStatus.SCHEDULED


# A database that is away


@pytest.mark.contract("P1.5")
@pytest.mark.parametrize("count", [1, 3, CHUNK + 1])
async def test_an_enqueue_whose_answer_is_lost_makes_each_job_once(
    dsn: str, db: Connection, count: int
) -> None:
    async with line_to(dsn) as (line, near), PgQueue(near, connect_options={"ssl": False}) as pgq:
        work = declare_work(pgq)
        await work.enqueue(10**9)

        # The answer to a commit, or to the one statement that commits by itself, is lost.
        line.cut_after = b"987654321"
        line.cut_at = b"COMMIT" if count > CHUNK else b"987654321"
        numbers = [987_654_321, *range(1, count)]
        handles = await pgq.enqueue_many([work.s(number) for number in numbers])

        assert line.cuts == 1
        assert all(handle.created for handle in handles)
        assert await db.fetchval(COUNT) == count + 1
        assert await db.fetchval(PLACES) == count + 1
        assert [(await handle.refresh()).arguments["number"] for handle in handles[:5]] == numbers[:5]


@pytest.mark.contract("P1.5", "P1.6")
async def test_an_enqueue_with_a_chosen_id_whose_answer_is_lost_is_one_job(dsn: str, db: Connection) -> None:
    async with line_to(dsn) as (line, near), PgQueue(near, connect_options={"ssl": False}) as pgq:
        work = declare_work(pgq)
        await work.enqueue(0)
        chosen = uuid4()

        # Its own commit: notifications of the job before it are committed, too.
        line.cut_after, line.cut_at = b"987654321", b"COMMIT"
        job = await work.options(id=chosen).enqueue(987_654_321)
        again = await work.options(id=chosen).enqueue(987_654_321)

        assert line.cuts == 1
        assert job.id == again.id == chosen
        assert await db.fetchval(COUNT) == 2


@pytest.mark.contract("P1.5", "P1.6")
@pytest.mark.parametrize("on_duplicate", ["return", "raise"])
async def test_a_chosen_id_whose_answer_is_lost_is_no_duplicate_of_itself(
    dsn: str, on_duplicate: Literal["return", "raise"]
) -> None:
    async with line_to(dsn) as (line, near), PgQueue(near, connect_options={"ssl": False}) as pgq:
        work = declare_work(pgq)
        await work.enqueue(0)

        line.cut_after, line.cut_at = b"987654321", b"COMMIT"
        job = await work.options(id=uuid4(), on_duplicate=on_duplicate).enqueue(987_654_321)

        assert line.cuts == 1
        assert job.created


@pytest.mark.contract("P1.5")
async def test_a_database_that_refuses_connections_is_a_typed_error() -> None:
    pgq = PgQueue("postgresql://nobody@127.0.0.1:1/none", connect_timeout=0.5)

    with anyio.fail_after(60), pytest.raises(DatabaseUnavailableError, match="ConnectionRefusedError"):
        await pgq.open()
    with anyio.fail_after(60), pytest.raises(DatabaseUnavailableError):
        await pgq.migrate()


@pytest.mark.contract("P1.5")
async def test_a_database_that_goes_down_is_a_typed_error_in_bounded_time(dsn: str, db: Connection) -> None:
    async with line_to(dsn) as (line, near):
        options = {"ssl": False}
        async with PgQueue(near, connect_timeout=0.5, connect_options=options) as pgq:
            work = declare_work(pgq)
            await work.enqueue(0)
            line.is_down = True
            await line.hang_up()

            with anyio.fail_after(60), pytest.raises(DatabaseUnavailableError, match="DSN"):
                await work.enqueue(1)

            line.is_down = False
            await work.enqueue(2)

    assert await db.fetchval(COUNT) == 2


@pytest.mark.contract("P1.5")
async def test_a_database_that_falls_silent_is_a_typed_error_in_bounded_time(dsn: str) -> None:
    async with line_to(dsn) as (line, near):
        options = {"ssl": False, "command_timeout": 0.5}
        async with PgQueue(near, connect_timeout=0.5, connect_options=options) as pgq:
            work = declare_work(pgq)
            await work.enqueue(0)
            line.is_silent = True

            with anyio.fail_after(60), pytest.raises(DatabaseUnavailableError, match="did not answer"):
                await work.enqueue(1)
