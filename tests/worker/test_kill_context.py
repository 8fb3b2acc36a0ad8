"""Worker processes that are killed with SIGKILL between a statement of a handler and its acknowledgement."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from kit.app_for_tests import make_tables, worker_process
from kit.faults import LossyProxy, lossy_proxy
from kit.waiting import eventually, has_status

from pgqueue import JobHandle, JobStatus, PgQueue

if TYPE_CHECKING:
    from conftest import Connection

# What the transaction sends, in its order; and whether the server carries it out before the worker dies.
BOUNDARIES = [
    ("-- hold_attempt:", False),
    ("insert into effect", False),
    ("insert into effect", True),
    ("set constraints", True),
    ("set local", True),
    ("-- finish:", False),
    ("finish", True),
    ("COMMIT;", False),
    ("COMMIT;", True),
]


def arm(proxy: LossyProxy, text: str, *, is_carried_out: bool) -> None:
    if text == "finish":
        # Its text is prepared first, and carried out with the next message.
        proxy.lose_answer_to(text, is_held=True)
    else:
        # The worker has other transactions, too.
        after = "insert into effect" if text == "COMMIT;" else ""
        proxy.lose_text(text, is_carried_out=is_carried_out, after=after, is_held=True)


@pytest.mark.contract("P3.1", "P3.12", "P2.11")
async def test_effects_in_the_jobs_transaction_happen_once_wherever_its_worker_is_killed(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    jobs: dict[tuple[str, bool], JobHandle[Any]] = {}

    async with lossy_proxy(dsn) as proxy:
        for text, is_carried_out in BOUNDARIES:
            arm(proxy, text, is_carried_out=is_carried_out)
            # A queue of its own for each: those that wait to be rescued do not get in the way.
            queue = f"queue-{len(jobs)}"
            job = await pgq.enqueue_by_name("write_in_transaction", options={"queue": queue})
            jobs[text, is_carried_out] = job
            with worker_process(proxy.dsn, name=queue, queues=[queue], lease_ttl=30) as victim:
                await proxy.lost.wait()
                victim.kill()
        committed = jobs["COMMIT;", True]
        await eventually(lambda: has_status(committed, JobStatus.SUCCEEDED))
        queues = [f"queue-{number}" for number in range(len(jobs))]
        with worker_process(dsn, name="survivor", queues=queues, lease_ttl=30):
            results = [await job.result(timeout=180) for job in jobs.values()]

    assert results == [7] * len(BOUNDARIES)
    assert await db.fetch("select job_id from effect group by job_id having count(*) <> 1") == []
    assert await db.fetchval("select count(*) from effect") == len(BOUNDARIES)
    executions = {
        boundary: await db.fetchval("select count(*) from execution where job_id = $1", job.id)
        for boundary, job in jobs.items()
    }
    # Committed is done, and anything before that is not.
    assert executions == {boundary: 1 if boundary == ("COMMIT;", True) else 2 for boundary in BOUNDARIES}


@pytest.mark.contract("P3.10", "P3.9")
async def test_a_step_runs_again_only_if_its_worker_was_killed_before_its_result_was_stored(
    pgq: PgQueue, dsn: str, db: Connection
) -> None:
    await make_tables(db)
    effects: dict[str, list[str]] = {}

    async with lossy_proxy(dsn) as proxy:
        for where in ("before", "after"):
            if where == "before":
                proxy.lose_text("-- record_step:", is_carried_out=False, is_held=True)
            else:
                proxy.lose_answer_to("record_step", is_held=True)
            job = await pgq.enqueue_by_name("charge_in_step")
            with ExitStack() as stack:
                victim = stack.enter_context(worker_process(proxy.dsn, name="victim", lease_ttl=30))
                await proxy.lost.wait()
                victim.kill()
                stack.enter_context(worker_process(dsn, name="survivor", lease_ttl=30))
                assert await job.result(timeout=180) == 7
            rows = await db.fetch("select key from effect where job_id = $1", job.id)
            effects[where] = [row["key"] for row in rows]
            assert await db.fetchval("select count(*) from execution where job_id = $1", job.id) == 2

    assert {where: len(keys) for where, keys in effects.items()} == {"before": 2, "after": 1}
    # The provider hears the same key twice, and charges once.
    assert len(set(effects["before"])) == 1
