"""What a page of one owner's jobs costs, among those of others: nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kit.plans import connected

from pgqueue.model.dead_letters import DeadLetterFilter
from pgqueue.model.filters import LAST_ID, JobFilter

if TYPE_CHECKING:
    from asyncpg import Connection

    from pgqueue import PgQueue

pytestmark = pytest.mark.contract("W25")

OTHERS = 20_000
FILL = """
    with job as (
        insert into pgqueue.job (id, lane, task, arguments, headers, status, completed_at)
        select pgqueue.uuid7(), 1, 'work', '{}', json_build_object('owner', $1::text), 'failed', now()
        from generate_series(1, $2)
        returning id
    )
    insert into pgqueue.dead_letter (job_id, failed_at, task, queue, reason, fingerprint, attempt)
    select id, now(), 'work', 'default', 'exception', 'same', 1 from job
"""


async def test_a_page_of_an_owner_looks_at_no_job_of_another(pgq: PgQueue, db: Connection, dsn: str) -> None:
    await pgq.index_owners()
    assert await pgq.has_owner_index()
    costs = []
    async with connected(dsn) as bench:
        await db.execute(FILL, "bob", 10)
        for others in (0, OTHERS):
            await db.execute(FILL, "alice", others)
            # Twice: the first execution on a connection reads the catalogues too.
            for _ in range(2):
                await bench.explain(
                    "jobs",
                    lambda connection: bench.store.list_owned(
                        connection, "bob", JobFilter(), LAST_ID, looks=200, limit=100
                    ),
                )
                await bench.explain(
                    "letters",
                    lambda connection: bench.store.list_letters(
                        connection, DeadLetterFilter(), None, 100, owner="bob"
                    ),
                )
            costs.append(dict(bench.costs))
            assert not bench.scans

    few, many = costs
    assert all(many[name] <= few[name] + 30 for name in few), costs
    assert [job.headers["owner"] for job in (await pgq.owned_jobs("bob", JobFilter())).jobs] == ["bob"] * 10
    assert len((await pgq.owned_letters("bob")).letters) == 10
    assert (await pgq.owned_jobs("bob", JobFilter(task="other"))).jobs == []
    assert (await pgq.owned_letters("bob", DeadLetterFilter(reason="other"))).letters == []


async def test_the_index_of_owners_holds_for_days_to_come_and_no_plain_job(
    pgq: PgQueue, db: Connection
) -> None:
    assert not await pgq.has_owner_index()
    await pgq.index_owners()
    await pgq.index_owners()

    await db.execute("select pgqueue.make_partition(now() + interval '20 days')")
    await pgq.enqueue_by_name("plain")
    await pgq.enqueue_by_name("owned", options={"headers": {"owner": "ann"}})

    partitions = await db.fetchval(
        "select count(*) from pg_inherits where inhparent = 'pgqueue.job'::regclass"
    )
    sizes = await db.fetch(
        "select pg_relation_size(inhrelid) as size from pg_inherits "
        "where inhparent = 'pgqueue.job_owner'::regclass"
    )
    assert len(sizes) == partitions
    # A page for what the index says of itself, and one more where a job has headers.
    assert sum(row["size"] > 8192 for row in sizes) == 1
    page = await pgq.owned_jobs("ann", JobFilter())
    assert [job.task for job in page.jobs] == ["owned"]
