"""However a job ends, what waits for it moves on: every door out of life, and every way to wait."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from kit import inside
from kit.faults import Ghost, ghost
from kit.graphs import Draft
from kit.hostile import ADD_COLUMNS

from pgqueue import PgQueue
from pgqueue.database.sql import ROOT
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Retried
from pgqueue.store import Store

if TYPE_CHECKING:
    from conftest import Connection

SUCCEEDED, FAILED = JobStatus.SUCCEEDED, JobStatus.FAILED
ERROR = JobError("ValueError", "no")

Door = Callable[[Ghost, "Connection", Sequence[UUID]], Awaitable[object]]


async def each(db: Connection, sql: str, ids: Sequence[UUID], *more: object) -> None:
    for job_id in ids:
        await db.execute(sql, job_id, *more)


async def finish(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.claim()
    await holder.store.finish(holder.connection, holder.lease_id, holder.name, ids, None)


async def fail(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.claim()
    ends = [Ended(job_id, FAILED, "exception", ERROR) for job_id in ids]
    await holder.store.fail(holder.connection, holder.lease_id, holder.name, ends)


async def fail_broken(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    for job_id in ids:
        await holder.store.fail_broken(holder.connection, job_id, "broken_row", ERROR, holder.name, None)


async def retry_cancelled(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.claim()
    await each(db, "select pgqueue.cancel($1)", ids)
    retries = [Retried(job_id, 0.0, "exception", ERROR) for job_id in ids]
    await holder.store.retry(holder.connection, holder.lease_id, holder.name, retries)


async def release_cancelled(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.claim()
    await each(db, "select pgqueue.cancel($1)", ids)
    await holder.store.release(holder.connection, holder.lease_id, holder.name, ids)


async def rescue_failed(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.claim()
    await holder.die()
    async with holder.connection.transaction():
        await holder.store.lock_expired_lease(holder.connection, holder.lease_id)
        await holder.store.rescue(holder.connection, holder.lease_id, 100, 0)


async def rescue_cancelled(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.claim()
    await each(db, "select pgqueue.cancel($1)", ids)
    await holder.die()
    async with holder.connection.transaction():
        await holder.store.lock_expired_lease(holder.connection, holder.lease_id)
        await holder.store.rescue(holder.connection, holder.lease_id, 100, 9)


async def carry_out_cancels(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.claim()
    await each(db, "select pgqueue.cancel($1)", ids)
    await holder.connection.execute("delete from pgqueue.cancel_request")
    await holder.store.release(holder.connection, holder.lease_id, holder.name, ids)
    await each(
        holder.connection,
        "insert into pgqueue.cancel_request (job_id, lease_id) values ($1, gen_random_uuid())",
        ids,
    )
    await holder.store.carry_out_cancels(holder.connection, 100)


async def expire(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.connection.execute(
        "update pgqueue.job set expires_at = now() - interval '1 minute' where id = any($1)", ids
    )
    await each(holder.connection, "insert into pgqueue.expiry (job_id, check_at) values ($1, now())", ids)
    await holder.store.expire(holder.connection, 100)


async def fail_unknown(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    lane = await db.fetchval(
        "insert into pgqueue.lane (queue, priority, task) values ('default', 0, 'ok') returning id"
    )
    await holder.connection.execute(
        "update pgqueue.ready set lane = $2, ready_at = now() - interval '1 hour' where job_id = any($1)",
        ids,
        lane,
    )
    await holder.connection.execute("update pgqueue.lease set tasks = '{}'")
    await holder.store.fail_unknown(holder.connection, 60, [], 100)


async def cancel_ready(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await each(db, "select pgqueue.cancel($1)", ids)


async def cancel_scheduled(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await each(db, "select pgqueue.transition($1, 'scheduled', at => now() + interval '1 hour')", ids)
    await each(db, "select pgqueue.cancel($1)", ids)


async def cancel_blocked(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await each(db, "select pgqueue.transition($1, 'blocked')", ids)
    await each(db, "select pgqueue.cancel($1)", ids)


async def cancel_prefetched(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.prefetch()
    await each(db, "select pgqueue.cancel($1)", ids)


async def succeed_by_hand(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.claim()
    await each(db, "select pgqueue.transition($1, 'succeeded', $2)", ids, holder.lease_id)


async def fail_by_hand(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await each(db, "select pgqueue.transition($1, 'failed')", ids)


async def delete_by_hand(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.connection.execute("delete from pgqueue.ready where job_id = any($1)", ids)
    await holder.connection.execute("delete from pgqueue.job where id = any($1)", ids)
    await holder.store.sweep_edges(holder.connection, UUID(int=0), 500, 0)


async def end_as_an_old_worker(holder: Ghost, db: Connection, ids: Sequence[UUID]) -> None:
    await holder.claim()
    await holder.connection.execute("delete from pgqueue.running where job_id = any($1)", ids)
    await holder.connection.execute(
        "update pgqueue.job set status = 'succeeded', completed_at = now() - interval '2 minutes' "
        "where id = any($1)",
        ids,
    )
    await holder.store.sweep_edges(holder.connection, UUID(int=0), 500, 60)


DOORS: dict[str, tuple[Door, bool]] = {
    "finish": (finish, True),
    "fail": (fail, False),
    "fail_broken": (fail_broken, False),
    "retry of a job that is to be cancelled": (retry_cancelled, False),
    "release of a job that is to be cancelled": (release_cancelled, False),
    "rescue of a job that was lost too often": (rescue_failed, False),
    "rescue of a job that is to be cancelled": (rescue_cancelled, False),
    "a request to cancel that is carried out late": (carry_out_cancels, False),
    "expire": (expire, False),
    "fail_unknown": (fail_unknown, False),
    "cancel of a ready job": (cancel_ready, False),
    "cancel of a scheduled job": (cancel_scheduled, False),
    "cancel of a blocked job": (cancel_blocked, False),
    "cancel of a prefetched job": (cancel_prefetched, False),
    "success by hand": (succeed_by_hand, True),
    "failure by hand": (fail_by_hand, False),
    "the record is deleted": (delete_by_hand, False),
    "an end by an old worker": (end_as_an_old_worker, True),
}
"""How a job can end, and whether that is a success."""


@pytest.fixture
async def holder(pgq: PgQueue, db: Connection) -> AsyncIterator[Ghost]:
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    await db.execute(ADD_COLUMNS)
    async with ghost(pgq) as holder:
        yield holder


async def attend_all(store: Store, connection: Connection) -> None:
    """Attend to what is noted, as the upkeep does."""
    while (await store.attend(connection, None, 1000)).taken:
        pass


@pytest.mark.contract("P7.4", "P7.7", "P7.9", "P7.10", "P7.11", "W8")
@pytest.mark.parametrize("door", DOORS)
async def test_whatever_ends_a_job_moves_on_what_waits_for_it(
    pgq: PgQueue, db: Connection, holder: Ghost, door: str
) -> None:
    store: Store = inside.store(pgq)
    # The other members end first: one well, for "any" one badly.
    draft, members = Draft(), []

    def pair() -> list[UUID]:
        members.append(draft.job("ok"))
        return [draft.job("other"), members[-1]]

    members.append(draft.job("ok"))
    link = draft.job("ok", [members[0]])
    bodies = {
        "link": link,
        "link behind the link": draft.job("ok", [link]),
        "all": draft.job("ok", pair()),
        "done": draft.job("ok", pair(), runs_anyway=True),
        "two": draft.job("ok", pair(), needs=2),
        "first": draft.job("ok", pair(), needs=1),
        "join": draft.job("ok", [draft.join(pair())]),
    }
    graph = draft.graph()
    await store.submit_workflow(db, graph)
    others = [node.id for node in graph.nodes if node.job is not None and node.job.template.task == "other"]
    bad = others[3]
    for other in others:
        await db.execute("select pgqueue.transition($1, 'running', $2)", other, holder.lease_id)
        after = "failed" if other == bad else "succeeded"
        await db.execute(f"select pgqueue.transition($1, '{after}', $2)", other, holder.lease_id)
    await attend_all(store, db)
    end, is_success = DOORS[door]

    await end(holder, db, members)
    await attend_all(store, db)

    stands = {
        name: await db.fetchval("select pgqueue.status_of($1)::text", body) for name, body in bodies.items()
    }
    moved = "pending" if is_success else "cancelled"
    assert stands == {
        "link": moved,
        "link behind the link": "blocked" if is_success else "cancelled",
        "all": moved,
        "done": "pending",
        "two": moved,
        "first": moved,
        "join": moved,
    }
    if not is_success:
        rows = await db.fetch(
            "select id, reason, error ->> 'message' as message from pgqueue.job where status = 'cancelled' "
            "and id = any($1)",
            list(bodies.values()),
        )
        assert {row["reason"] for row in rows} == {"upstream_failed"}
        named = {row["id"]: row["message"] for row in rows}
        assert str(members[0]) in named[link]
        assert named[bodies["link behind the link"]] == named[link]
        assert str(members[1]) in named[bodies["all"]]
        assert str(members[-1]) in named[bodies["join"]]


SETS_STATUS = re.compile(
    r"update\s+pgqueue\.job\b(?:(?!\bwhere\b).)*?\bset\b(?:(?!\bwhere\b).)*?\bstatus\s*=", re.DOTALL
)


def test_every_statement_that_ends_jobs_settles_what_waits_for_them() -> None:
    root = Path(str(ROOT))
    ending = {
        path.stem: path.read_text(encoding="utf-8")
        for path in root.glob("*/*.sql")
        if path.parent.name != "migrations" and SETS_STATUS.search(path.read_text(encoding="utf-8"))
    }

    assert {
        "finish",
        "fail",
        "fail_broken",
        "retry",
        "release",
        "expire",
        "fail_unknown",
    } <= ending.keys()
    assert [name for name, sql in ending.items() if "pgqueue.settle(" not in sql] == []


async def test_so_does_every_function(db: Connection) -> None:
    functions = await db.fetch(
        "select proname::text as name, prosrc as text from pg_proc "
        "where pronamespace = 'pgqueue'::regnamespace and prosrc is not null"
    )
    ending = {row["name"]: row["text"] for row in functions if SETS_STATUS.search(row["text"])}

    # These make jobs live again; and what `spoil` ends, `attend` notes.
    settling = {"cancel", "end_receipt", "receive", "rescue", "transition"}
    assert ending.keys() - {"reopen", "rearm", "spoil"} == settling
    assert all("pgqueue.settle(" in ending[name] for name in settling)
