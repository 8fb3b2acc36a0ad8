"""A chord of 10,000 whose members fail here and there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kit.faults import ghost
from kit.graphs import Draft

from pgqueue import PgQueue
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended
from pgqueue.store import Settled

if TYPE_CHECKING:
    from conftest import Connection

MEMBERS = 10_000
BATCH = 500
FAILED = MEMBERS // 100
ERROR = JobError("ValueError", "no")


@pytest.mark.contract("P7.9", "P7.10", "P7.11", "P7.12")
@pytest.mark.parametrize(
    ("policy", "is_run"),
    [
        ({}, False),
        ({"runs_anyway": True}, True),
        ({"needs": 1}, True),
        ({"needs": MEMBERS - FAILED}, True),
        ({"needs": MEMBERS - FAILED + 1}, False),
    ],
    ids=["all", "done", "first", "99 %", "more than there are"],
)
async def test_the_body_behind_ten_thousand_is_decided_once_though_a_hundred_fail(
    pgq: PgQueue, db: Connection, policy: dict[str, Any], is_run: bool
) -> None:
    await db.execute("select pgqueue.lane_of('default', 0::smallint)")
    draft = Draft()
    members = [draft.job("ok") for _ in range(MEMBERS)]
    body = draft.job("ok", members, **policy)
    bad = set(members[50::100])
    async with ghost(pgq) as holder:
        store, connection, lease = holder.store, holder.connection, holder.lease_id
        await store.submit_workflow(db, draft.graph())
        for _ in range(MEMBERS // BATCH):
            claimed = await store.claim(connection, lease, BATCH, [(1, 0)])
            ids = {job.id for job in claimed} - {body}
            settled = Settled()
            ends = [Ended(each, JobStatus.FAILED, "exception", ERROR) for each in ids & bad]
            await store.fail(connection, lease, "ghost", ends, settled)
            await store.finish(connection, lease, "ghost", sorted(ids - bad), None, settled)
            notes: Any = settled.notes
            while notes:
                notes = (await store.attend(connection, notes, 1000)).more

    status = await db.fetchval("select pgqueue.status_of($1)::text", body)
    barrier = await db.fetchrow("select state, failed from pgqueue.barrier where id = $1", body)
    assert barrier is not None
    assert barrier["state"] == ("fired" if is_run else "failed")
    assert (status in {"pending", "running"}) == is_run
    if not is_run:
        message = await db.fetchval("select error ->> 'message' from pgqueue.job where id = $1", body)
        assert f"{FAILED} jobs" in message
        assert sum(str(each) in message for each in bad) == FAILED
