"""A lively scene for eyes: queues, tasks, jobs in every status, hostile texts, two workers.

Tests of the pages use it; `python -m kit.scene`, run in tests/, serves it on a PostgreSQL server of its own.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import asyncpg
import uvicorn

from kit.waiting import eventually
from pgqueue import JobContext, JobHandle, JobStatus, PgQueue, Reject
from pgqueue.embedded import embedded_server
from pgqueue.model.estimates import BUCKETS
from pgqueue.options.declared import CallOptions
from pgqueue.web import status_app

MARKUP = "<script>alert('pgqueue')</script><img src=x onerror=alert(1)>"
BIDI = "invoice\u202egnp.exe"
RIGHT_TO_LEFT = "دفع الفاتورة"
LONG = "very-long-" * 60


@dataclass
class Scene:
    """The jobs that tests want to look at."""

    pgq: PgQueue
    pending: JobHandle[Any]
    scheduled: JobHandle[Any]
    retrying: JobHandle[Any]
    running: JobHandle[Any]
    succeeded: JobHandle[Any]
    failed: JobHandle[Any]
    """Its group has three."""
    cancelled: JobHandle[Any]
    hostile: JobHandle[Any]
    """Failed, with markup wherever text goes."""
    release: anyio.Event
    """Set it to let the running ones finish."""


def declare(pgq: PgQueue, release: anyio.Event) -> None:
    """Declare the tasks. Those that run do so until *release*."""

    @pgq.task(queue="mail", name="send_email")
    async def send_email(to: str, subject: str) -> dict[str, Any]:
        await anyio.sleep(0.01)
        return {"message_id": f"<{abs(hash(to)) % 10**8}@mail.example>", "accepted": [to], "rejected": []}

    @pgq.task(queue="reports", name="build_report")
    async def build_report(ctx: JobContext, customer: int, month: str) -> str:
        for page in range(1, 69):
            ctx.progress(page, 160, {"page": page, "section": "Revenue by region"})
        await release.wait()
        return f"reports/{customer}/{month}.pdf"

    @pgq.task(queue="payments", name="charge_card", max_retries=0)
    async def charge_card(order: int) -> None:
        raise ConnectionError(f"order {order}: gateway answered 502 after 3012 ms")

    @pgq.task(queue="payments", name="settle_account", max_retries=5, default_retry_delay=900)
    async def settle_account(account: str) -> None:
        raise TimeoutError(f"no answer from the ledger for {account}")

    @pgq.task(queue="imports", name="import_file")
    async def import_file(path: str) -> None:
        raise Reject("the file has no header")

    @pgq.task(queue="hostile <b>queue</b>", name=f"task {MARKUP}", max_retries=0)
    async def hostile(text: str, other: str) -> None:
        raise ValueError(f"{MARKUP} {BIDI} {LONG}")


@asynccontextmanager
async def lively(pgq: PgQueue, *, mails: int = 12) -> AsyncIterator[Scene]:
    """Declare, run two workers and enqueue; yields when every job is where it is to be."""
    release = anyio.Event()
    declare(pgq, release)
    enqueue = pgq.enqueue_by_name
    tagged: CallOptions = {"tags": ["customer:42", "invoice"], "key": "invoice-2026-10", "priority": 5}
    async with (
        pgq.worker(name="alpha", queues=["mail", "reports", "payments"], grace=1),
        pgq.worker(name="beta <i>two</i>", concurrency=4, grace=1),
    ):
        succeeded = await enqueue("send_email", "ada@example.com", "Your invoice", options=tagged)
        for number in range(mails):
            await enqueue("send_email", f"reader{number}@example.com", "News of the week")
        running = await enqueue("build_report", 4711, "2026-10")
        await enqueue("build_report", 815, "2026-11")
        retrying = await enqueue("settle_account", "DE02 1203 0000")
        failed, *others = [await enqueue("charge_card", order) for order in (1001, 1002, 1003)]
        rejected = await enqueue("import_file", "/data/2026-10-31.csv")
        hostile = await enqueue(f"task {MARKUP}", MARKUP, BIDI, options={"tags": [MARKUP], "key": BIDI})
        scheduled = await enqueue("send_email", "later@example.com", RIGHT_TO_LEFT, options={"delay": 7200})
        cancelled = await enqueue("send_email", "never@example.com", "Oops", options={"delay": 7200})
        await pgq.cancel(cancelled.id, reason="a duplicate", actor="ada")
        places = {
            JobStatus.SUCCEEDED: [succeeded],
            JobStatus.RUNNING: [running],
            JobStatus.SCHEDULED: [retrying, scheduled],
            JobStatus.FAILED: [failed, *others, rejected, hostile],
        }

        async def is_set() -> bool:
            return all([await job.status() is status for status, jobs in places.items() for job in jobs])

        async def has_progress() -> bool:
            return (await running.refresh()).progress is not None

        await eventually(is_set)
        await eventually(has_progress)
        await pgq.pause(queue="imports", actor="ann", reason="the share is being moved")
        pending = [await enqueue("import_file", f"/data/2026-11-{day:02}.csv") for day in range(1, 21)]
        try:
            yield Scene(
                pgq, pending[0], scheduled, retrying, running, succeeded, failed, cancelled, hostile, release
            )
        finally:
            release.set()


HISTORY = """
    insert into pgqueue.stat (id, at, seconds, queue, enqueued, claimed, succeeded, failed, cancelled,
                              expired, retried, lost, waits, runs)
    select gen_random_uuid(), now() - minutes * interval '1 minute', 60, queue, ended, ended, ended - failed,
           failed, 0, 0, failed, 0, array_fill(0, array[$1]), array_fill(0, array[$1])
    from generate_series(1, 60) as minutes
    cross join (
        values ('mail', 900), ('payments', 240), ('reports', 20), ('imports', 120)
    ) as queues (queue, usual)
    cross join lateral (
        select (usual * (1 + 0.5 * sin(minutes / 7.0 + usual) + 0.3 * random()))::integer as ended
    ) as done
    cross join lateral (
        select case when minutes between 20 and 26 then ended / 6 else ended / 90 end as failed
    ) as bad
"""
WAITS = """
    update pgqueue.stat
    set waits[9 + (random() * 4)::integer] = claimed / 2, waits[16 + (random() * 3)::integer] = claimed / 10,
        runs[14] = claimed / 2, runs[20] = claimed / 10
"""


async def remember(dsn: str) -> None:
    """Write down an hour as processes would have."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(HISTORY.replace("$1", str(BUCKETS)))
        await connection.execute(WAITS)
    finally:
        await connection.close()


async def serve(port: int, mails: int, *, token: str | None, colour: str, name: str) -> None:
    """Serve the scene until interrupted."""
    with embedded_server(None) as dsn:
        pgq = PgQueue(dsn, version="2026.11.3")
        await pgq.migrate()
        await remember(dsn)
        async with pgq, lively(pgq, mails=mails):
            app = status_app(
                pgq,
                name=name,
                colour=colour,
                show_tracebacks=True,
                token=token,
                authorize=None if token else allow,
            )
            await uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning")).serve()


def allow(*_: object) -> bool:
    """Let everybody do everything."""
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--mails", type=int, default=200)
    parser.add_argument("--token")
    parser.add_argument("--colour", default="#8b1e3f")
    parser.add_argument("--name", default="Production")
    given = parser.parse_args()
    asyncio.run(serve(given.port, given.mails, token=given.token, colour=given.colour, name=given.name))
