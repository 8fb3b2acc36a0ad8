"""A worker whose server goes away at any of its messages, and comes back: jobs end, and the log is whole."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from pathlib import Path

import pytest
from kit.cutting import cutting_proxy
from kit.processes import processes_in
from kit.waiting import eventually, holds

from pgqueue import JobContext, PgQueue

MESSAGES = range(0, 120, 9)
"""At which of the messages from the start of the worker on."""


@pytest.mark.contract("F6", "BP13")
@pytest.mark.parametrize("is_sent", [False, True])
async def test_a_worker_that_is_cut_off_at_any_message_goes_on(
    pgq: PgQueue, dsn: str, caplog: pytest.LogCaptureFixture, *, is_sent: bool
) -> None:
    succeeded = Counter[int]()
    async with cutting_proxy(dsn) as proxy:
        for message in MESSAGES:
            async with PgQueue(proxy.dsn, connect_timeout=60) as away:

                @away.task(name="work")
                async def work(ctx: JobContext, number: int) -> int:
                    await ctx.step("one", asyncio.sleep, 0)
                    async with ctx.transaction() as connection:
                        await connection.execute("select 1")
                    return number

                jobs = await pgq.enqueue_many([pgq.signature("work", number) for number in range(5)])
                proxy.go_away(message, is_sent=is_sent)
                async with away.worker(concurrency=3, poll_interval=0.1) as worker:
                    # It may be idle before so many messages.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            await eventually(lambda: holds(proxy.is_away))
                    await asyncio.sleep(0.05)
                    proxy.come_back()
                    for number, job in enumerate(jobs):
                        succeeded[number] += await pgq.handle(job.id).result(timeout=180) == number
                    assert worker.is_alive
    assert set(succeeded.values()) == {len(MESSAGES)}
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


CUTS = ((0, True), (2, False), (7, True), (13, False), (22, True))
"""At which message since the cut before, and whether it reaches the server."""


@pytest.mark.contract("F6", "BP13")
async def test_a_worker_process_that_is_cut_off_again_and_again_goes_on(
    pgq: PgQueue, dsn: str, tmp_path: Path
) -> None:
    async with cutting_proxy(dsn) as proxy:
        with processes_in(tmp_path, proxy.dsn) as processes:
            worker = processes.start("worker", "jobs_here:pgq", "--concurrency=2")
            # The first cuts are at its start: it waits for its database.
            for message, is_sent in CUTS:
                proxy.go_away(message, is_sent=is_sent)
                jobs = [await pgq.enqueue_by_name("add", number, 1) for number in range(3)]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(5):
                        await eventually(lambda: holds(proxy.is_away))
                proxy.come_back()
                for number, job in enumerate(jobs):
                    assert await job.result(timeout=180) == number + 1
            worker.send_signal(signal.SIGTERM)
            code, _, log = await processes.ended(worker)

    assert (code, "Traceback" in log) == (0, False), log
