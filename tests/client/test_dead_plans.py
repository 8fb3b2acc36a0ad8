"""What dead letters cost: rows by index, however many there are, and nothing where nothing fails.

Counts of rows that the server read in a transaction, triggers and functions included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from kit.dead import fail_jobs
from kit.dead_plans import crowded, rows_read

from pgqueue.model.dead_letters import DeadLetterFilter
from pgqueue.model.job_error import JobError
from pgqueue.model.jobs import JobStatus
from pgqueue.model.outcomes import Ended, Retried
from pgqueue.store import Store

if TYPE_CHECKING:
    from kit.plans import Bench

BATCH = 100


async def claimed(bench: Bench) -> list[object]:
    """Have a batch of jobs run under the bench's lease; return their ids."""
    jobs = await bench.store.claim(bench.connection, bench.lease_id, BATCH, [(1, 0)])
    return [job.id for job in jobs]


@pytest.mark.contract("P5.3")
async def test_failures_and_retries_read_their_own_rows_alone(dsn: str) -> None:
    async with crowded(dsn) as bench:
        connection, ids = bench.connection, await claimed(bench)
        error = JobError("ValueError", "no", None)
        retries = [Retried(job_id, 1.0, "exception", error) for job_id in ids]  # type: ignore[arg-type]
        ends = [Ended(job_id, JobStatus.FAILED, "exception", error) for job_id in ids]  # type: ignore[arg-type]

        retry = await rows_read(
            connection, lambda: bench.store.retry(connection, bench.lease_id, "w", retries)
        )
        fail = await rows_read(connection, lambda: bench.store.fail(connection, bench.lease_id, "w", ends))

    # Of each: running, job, and the job again for the trigger; of a failure, its attempt and its lane too.
    assert BATCH <= retry.total() <= 4 * BATCH + 50
    assert BATCH <= fail.total() <= 6 * BATCH + 50


@pytest.mark.contract("P5.3")
async def test_a_success_enters_nothing_and_looks_at_no_dead_letter(dsn: str) -> None:
    async with crowded(dsn) as bench:
        connection, ids = bench.connection, await claimed(bench)

        read = await rows_read(
            connection,
            lambda: bench.store.finish(connection, bench.lease_id, "w", ids, None),  # type: ignore[arg-type]
        )

    assert read.keys() & {"dead_letter", "attempt", "action"} == set()


@pytest.mark.contract("P5.4")
async def test_a_page_a_filter_and_the_groups_read_what_they_show(dsn: str) -> None:
    async with crowded(dsn) as bench:
        connection, store = bench.connection, Store("pgqueue")
        last = (await store.list_letters(connection, DeadLetterFilter(), None, 1000))[-1]

        page = await rows_read(
            connection,
            lambda: store.list_letters(connection, DeadLetterFilter(), (last.failed_at, last.job_id), BATCH),
        )
        group = await rows_read(
            connection, lambda: store.list_letters(connection, DeadLetterFilter(fingerprint="3"), None, BATCH)
        )
        none = await rows_read(
            connection, lambda: store.list_letters(connection, DeadLetterFilter(fingerprint="x"), None, BATCH)
        )
        groups = await rows_read(
            connection,
            lambda: store.group_letters(
                connection, task=None, reason=None, error_type=None, limit=100, cap=50, most=1000
            ),
        )

    assert (page.total(), group.total(), none.total()) == (BATCH, BATCH, 0)
    assert groups.total() <= 5 * (50 + 10)


@pytest.mark.contract("P5.6")
async def test_a_batch_of_a_mass_redrive_reads_its_own_rows_alone(dsn: str) -> None:
    async with crowded(dsn) as bench:
        connection, store = bench.connection, Store("pgqueue")
        await fail_jobs(connection, BATCH)
        # The oldest are the ones that have a record.
        await connection.execute(
            "update pgqueue.dead_letter set failed_at = failed_at - interval '1 year' where task = 'work'"
        )
        await store.begin_redrive(
            connection,
            uuid4(),
            DeadLetterFilter(),
            rate=BATCH,
            queue=None,
            reset_attempts=True,
            reason=None,
            actor=None,
        )
        await connection.execute("update pgqueue.mass_redrive set carried_at = now() - interval '1 hour'")

        async def carry() -> None:
            carried = await store.carry_redrive(connection, BATCH)
            assert carried is not None
            jobs, _ = await store.find_redriven(connection, carried)
            assert len(jobs) == BATCH

        read = await rows_read(connection, carry)

    assert BATCH <= read.total() <= 15 * BATCH + 50


@pytest.mark.contract("P5.1")
async def test_looking_for_unknown_tasks_reads_no_other_jobs(dsn: str) -> None:
    async with crowded(dsn) as bench:
        connection, store = bench.connection, bench.store

        found = await rows_read(connection, lambda: store.fail_unknown(connection, 60.0, [], BATCH))
        waiting = await rows_read(connection, lambda: store.find_waiting_aside(connection, 60.0))

    assert found.total() <= 10
    assert waiting.total() <= 10
