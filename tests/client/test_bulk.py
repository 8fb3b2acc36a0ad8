"""Bulk operations: many jobs cancelled, requeued or discarded in the background, each of them once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.dead import fail_jobs
from kit.faults import ghost
from kit.waiting import eventually

from pgqueue import InvalidFilterError, InvalidOptionError, JobFilter, JobHandle, JobNotFoundError, PgQueue
from pgqueue.client import operation_handle
from pgqueue.client.bulk import changeable
from pgqueue.events.kinds import JobsCancelled, JobsReopened, WorkErrorIsolated
from pgqueue.model.bulk import BY_DEFAULT, POSSIBLE, VERBS, BulkProgress, BulkVerb, next_listed
from pgqueue.model.jobs import JobStatus
from pgqueue.upkeep.bulk import Bulk

if TYPE_CHECKING:
    from conftest import Connection

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation_handle, "PROGRESS_PAUSE", 0.02)


async def carried_out(pgq: PgQueue, verb: BulkVerb, *given: Any, **options: Any) -> BulkProgress:
    handle = await pgq.begin_bulk(verb, *given, **options)
    async with pgq.worker(queues=["none"]):
        return await handle.wait(60)


async def statuses_of(pgq: PgQueue, jobs: Sequence[JobHandle[Any]]) -> list[str]:
    found = await pgq.get_many(job.id for job in jobs)
    return [found[job.id].status for job in jobs]


@pytest.mark.contract("W24")
async def test_what_a_filter_finds_is_cancelled_newest_first_and_noted(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bulk, "limit", 2)
    heard: list[JobsCancelled] = []
    pgq.observe(heard.append, JobsCancelled)  # type: ignore[arg-type]
    meant = await pgq.enqueue_many([pgq.signature("work", number) for number in range(5)])
    later = await pgq.enqueue_by_name("work", options={"delay": 60})
    other = await pgq.enqueue_by_name("other")

    done = await carried_out(
        pgq, "cancel", JobFilter.of(task="work", status="pending"), expected=5, reason="wrong", actor="ann"
    )

    assert (done.state, done.found, done.done, done.expected) == ("done", 5, 5, 5)
    assert await statuses_of(pgq, [*meant, later, other]) == ["cancelled"] * 5 + ["scheduled", "pending"]
    [action] = await pgq.actions(meant[0].id)
    assert (action.action, action.actor, action.reason) == ("cancelled", "ann", "wrong")
    cancelled = [job.job_id for each in heard for job in each.jobs]
    assert sorted(cancelled) == [job.id for job in meant]
    assert len(heard) == 3


@pytest.mark.contract("W24")
async def test_listed_jobs_that_changed_meanwhile_are_left_as_they_are(pgq: PgQueue, db: Connection) -> None:
    jobs = await pgq.enqueue_many([pgq.signature("work", number) for number in range(3)])
    ids: list[UUID | str] = [jobs[0].id, str(jobs[1].id), uuid4()]
    handle = await pgq.begin_bulk("cancel", ids=ids, expected=2)
    await jobs[1].cancel(reason="before")

    async with pgq.worker(queues=["none"]):
        done = await handle.wait(60)

    assert (done.state, done.found, done.done) == ("done", 3, 1)
    assert await statuses_of(pgq, jobs) == ["cancelled", "cancelled", "pending"]
    assert [each.reason for each in await pgq.actions(jobs[1].id)] == ["before"]


@pytest.mark.contract("W24")
async def test_failed_jobs_are_requeued_or_discarded_but_no_succeeded_ones(
    pgq: PgQueue, db: Connection
) -> None:
    heard: list[JobsReopened] = []
    pgq.observe(heard.append, JobsReopened)  # type: ignore[arg-type]
    failed = [pgq.handle(job_id) for job_id in await fail_jobs(db, 4)]
    succeeded = await pgq.enqueue_by_name("work")
    async with ghost(pgq) as holder:
        await holder.claim()
        await holder.store.finish(holder.connection, holder.lease_id, holder.name, [succeeded.id], None)

    discarded = await carried_out(pgq, "discard", ids=[failed[0].id, succeeded.id])
    requeued = await carried_out(pgq, "requeue", all=True)

    assert (discarded.found, discarded.done) == (2, 1)
    # A job that was discarded stays failed, and can be requeued.
    assert (requeued.found, requeued.done) == (4, 4)
    assert await statuses_of(pgq, [*failed, succeeded]) == ["pending"] * 4 + ["succeeded"]
    assert {job.job_id for each in heard for job in each.jobs} == {job.id for job in failed}
    assert await db.fetchval("select count(*) from pgqueue.dead_letter") == 0


@pytest.mark.contract("W24")
async def test_what_came_after_the_preview_is_left_out(pgq: PgQueue, db: Connection) -> None:
    before = await pgq.enqueue_by_name("work", {"tenant": "acme"})
    seen_at = await pgq.now()
    after = await pgq.enqueue_by_name("work", {"tenant": "acme"})
    # A search selects at once what it finds.
    chosen = JobFilter(search="ACME")

    first = await carried_out(pgq, "cancel", chosen, as_of=seen_at)
    [late] = await fail_jobs(db, 1)
    second = await carried_out(pgq, "requeue", all=True, as_of=seen_at)

    assert (first.done, second.done) == (1, 0)
    assert await statuses_of(pgq, [before, after, pgq.handle(late)]) == ["cancelled", "pending", "failed"]


@pytest.mark.contract("W24")
async def test_an_operation_that_is_begun_twice_is_one_and_can_be_stopped(pgq: PgQueue) -> None:
    job = await pgq.enqueue_by_name("work")
    bulk_id = uuid4()
    first = await pgq.begin_bulk("cancel", JobFilter(task="work"), bulk_id=bulk_id)
    again = await pgq.begin_bulk("cancel", all=True, bulk_id=str(bulk_id))

    assert (await again.progress()).chosen == (await first.progress()).chosen
    assert (await first.cancel(), await again.cancel()) == (True, False)
    async with pgq.worker(queues=["none"]) as worker:
        await worker.wait_ready()
        assert (await first.wait(60)).state == "cancelled"
    assert await job.status() == JobStatus.PENDING
    with pytest.raises(JobNotFoundError):
        await pgq.bulk_handle(uuid4()).progress()


@pytest.mark.contract("W8")
async def test_a_job_at_which_it_fails_is_left_out_and_what_cannot_be_read_is_stopped(
    pgq: PgQueue, db: Connection
) -> None:
    heard: list[WorkErrorIsolated] = []
    pgq.observe(heard.append, WorkErrorIsolated)  # type: ignore[arg-type]
    jobs = await pgq.enqueue_many([pgq.signature("work", number) for number in range(3)])
    await db.execute(
        f"""
        create function public.refuse() returns trigger language plpgsql as $$
        begin
            if new.job_id = '{jobs[1].id}' then raise division_by_zero; end if;
            return new;
        end $$;
        create trigger refuse before insert on pgqueue.action for each row execute function public.refuse();
        """
    )
    documents: tuple[Any, ...] = ({"colour": "red"}, [], {"created_after": "yesterday"})
    for document in documents:
        await db.execute(
            "insert into pgqueue.bulk (id, verb, filter) values ($1, 'cancel', $2)",
            uuid4(),
            json.dumps(document),
        )

    done = await carried_out(pgq, "cancel", JobFilter(task="work"))

    assert (done.state, done.found, done.done) == ("done", 3, 2)
    assert await statuses_of(pgq, jobs) == ["cancelled", "pending", "cancelled"]
    others = "select array_agg(distinct state) from pgqueue.bulk where id <> $1"
    assert await db.fetchval(others, done.id) == ["cancelled"]
    assert {each.doing for each in heard} == {"working on bulk operations"}


async def test_an_operation_is_carried_on_by_another_worker(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bulk, "limit", 1)
    jobs = await pgq.enqueue_many([pgq.signature("work", number) for number in range(20)])
    handle = await pgq.begin_bulk("cancel", JobFilter(task="work"))

    async def has_begun() -> bool:
        return (await handle.progress()).done > 0

    async with pgq.worker(queues=["none"]):
        await eventually(has_begun)
    async with pgq.worker(queues=["none"]), pgq.worker(queues=["none"]):
        done = await handle.wait(60)

    assert (done.found, done.done) == (20, 20)
    assert {*await statuses_of(pgq, jobs)} == {"cancelled"}
    assert [len(await pgq.actions(job.id)) for job in jobs] == [1] * 20


@pytest.mark.parametrize(
    ("call", "match"),
    [
        ({"verb": "delete", "all": True}, "verb must be one of cancel, requeue, discard, got 'delete'"),
        ({"verb": "cancel"}, "an empty filter matches every job: narrow it, or pass all=True"),
        ({"verb": "cancel", "ids": []}, "ids must be 1 to 1,000 job ids, got 0"),
        ({"verb": "cancel", "ids": [UUID(int=n) for n in range(1001)]}, "got 1,001"),
        ({"verb": "cancel", "ids": "x"}, "ids must be a list of job ids, got 'x'"),
        ({"verb": "cancel", "ids": [UUID(int=1)], "all": True}, "pass either ids or a filter, not both"),
        ({"verb": "cancel", "chosen": JobFilter.of(status="failed")}, "the filter selects none"),
        ({"verb": "cancel", "all": True, "as_of": datetime(2026, 1, 1)}, "time zone-aware"),  # noqa: DTZ001  # that is the point
    ],
)
async def test_what_cannot_be_meant_is_refused_and_begins_nothing(
    pgq: PgQueue, db: Connection, call: Any, match: str
) -> None:
    with pytest.raises((InvalidFilterError, InvalidOptionError), match=match):
        await pgq.begin_bulk(**call)

    assert await db.fetchval("select count(*) from pgqueue.bulk") == 0


@given(
    st.sampled_from(VERBS),
    st.frozensets(st.sampled_from(JobStatus)),
    st.none() | st.timedeltas(timedelta(-9), timedelta(9)),
)
def test_a_filter_of_an_operation_selects_only_what_it_can_change(
    verb: BulkVerb, statuses: frozenset[JobStatus], before: timedelta | None
) -> None:
    at = None if before is None else NOW + before
    chosen = JobFilter(statuses or None, "work", created_before=at, finished_before=at)
    possible = (statuses or BY_DEFAULT[verb]) & POSSIBLE[verb]
    if not possible:
        with pytest.raises(InvalidFilterError):
            changeable(verb, chosen, NOW)
        return

    meant = changeable(verb, chosen, NOW)

    assert (meant.statuses, meant.task) == (possible, "work")
    until = meant.created_before if verb == "cancel" else meant.finished_before
    assert until == min(at or NOW, NOW)
    assert JobFilter.from_json(meant.to_json()) == meant


@given(st.lists(st.uuids(), max_size=20), st.integers(1, 5))
def test_listed_jobs_are_walked_once_each_from_the_newest(ids: list[UUID], limit: int) -> None:
    walked: list[UUID] = []
    reached: UUID | None = None
    is_last = False
    while not is_last:
        part, is_last = next_listed(ids, reached, limit)
        assert is_last or len(part) == limit
        walked += part
        reached = part[-1] if part else reached

    assert walked == sorted(set(ids), reverse=True)
