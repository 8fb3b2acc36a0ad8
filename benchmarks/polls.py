"""What watching costs: a worker's throughput with and without polls and event streams beside it.

The status app and its clients are processes of their own. Each round drains the same number of jobs alone
and beside the load, in turn; polls ask for jobs that are being drained, streams watch jobs that wait. A
poll's latency counts from when it was due, so one that is sent late is a slow one. Then /metrics and the
overview are timed, with as many jobs stored and pending as asked for. The processor time that the status app
spends on a poll says more than rates do on a machine that it has to share with all the others.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import asyncpg
import common

from pgqueue import JobHandle, PgQueue, Task
from pgqueue.cli.running.http_server import serving
from pgqueue.cli.running.sockets import listen
from pgqueue.web import status_app

BATCH = 10_000
CONNECTIONS = 50
"""Over which polls go, in turn."""
OVERVIEW_PATHS = ("/metrics", "/queues", "/dashboard/")
OVERVIEW_LOOKS = 20

STORE = """
insert into pgqueue.job (id, lane, task, arguments, status, attempt, started_at, completed_at, worker, result)
select pgqueue.uuid7(), 1, 'noop', '{"number": 1}', 'succeeded', 1, now(), now(), 'worker', 'null'
from generate_series(1, $1::integer)
"""
QUEUE = """
with new as (
    insert into pgqueue.job (id, lane, task, arguments)
    select pgqueue.uuid7(), pgqueue.lane_of('backlog', 0::smallint), 'noop', '{"number": 1}'
    from generate_series(1, $1::integer)
    returning id, lane
)
insert into pgqueue.ready (job_id, lane) select id, lane from new
"""


def declare(pgq: PgQueue) -> Task[[int], None]:
    """Declare the task of all jobs."""

    @pgq.task
    async def noop(number: int) -> None:
        """Do nothing."""

    return noop


# The status app


async def serve(dsn: str) -> None:
    """Be the status app as `pgqueue web` serves it, until standard input ends.

    Say the port first, and for each line of input the processor time spent until then.
    """
    pgq = PgQueue(dsn)
    listener = listen("127.0.0.1", 0)
    async with pgq, serving(status_app(pgq, open_reading=True), listener):
        print(listener.getsockname()[1], flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(time.process_time(), flush=True)


# Its clients


async def load(port: int, *, polls: int, streams: int) -> None:
    """Be the clients, of the jobs that standard input names, until it ends. Say when all listen."""
    asked = json.loads(await asyncio.to_thread(sys.stdin.readline))
    latencies: list[float] = []
    bad: list[str] = []
    opened = [await open_stream(port, job_id) for job_id in asked["watched"][:streams]]
    started = time.monotonic()
    pollers = [
        asyncio.create_task(
            poll(
                port,
                asked["polled"],
                every=CONNECTIONS / polls,
                first=started + number / polls,
                latencies=latencies,
                bad=bad,
            )
        )
        for number in range(CONNECTIONS if polls else 0)
    ]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    seconds = time.monotonic() - started
    for poller in pollers:
        poller.cancel()
    await asyncio.gather(*pollers, return_exceptions=True)
    open_at_the_end = sum(not reader.at_eof() for reader, _ in opened)
    for _, writer in opened:
        writer.close()
    print(
        json.dumps(
            {
                "polls": float(len(latencies)),
                "polls_per_s": len(latencies) / seconds,
                "poll_ms_p50": common.percentile(latencies or [0.0], 0.5) * 1000,
                "poll_ms_p95": common.percentile(latencies or [0.0], 0.95) * 1000,
                "poll_ms_p99": common.percentile(latencies or [0.0], 0.99) * 1000,
                "failed_polls": float(len(bad)),
                "open_streams": float(open_at_the_end),
            }
        ),
        flush=True,
    )


async def open_stream(port: int, job_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Watch a job; return once its first event is here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    await reader.readuntil(b"event: job")
    return reader, writer


async def poll(
    port: int, ids: list[str], *, every: float, first: float, latencies: list[float], bad: list[str]
) -> None:
    """Poll jobs over one connection, by the clock, until cancelled."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = first
    while True:
        await asyncio.sleep(due - time.monotonic())
        status = await get(reader, writer, f"/jobs/{random.choice(ids)}")
        latencies.append(time.monotonic() - due)
        if status != 200:
            bad.append(str(status))
        due += every


async def get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> int:
    """Return the status of the answer, which is read whole."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


# The worker, and what is measured


async def measure(dsn: str, options: Any) -> common.Figures:
    """Drain jobs alone and beside the load; then look at the overview."""
    pgq = PgQueue(dsn)
    noop = declare(pgq)
    admin = await asyncpg.connect(dsn)
    await admin.execute("set pgqueue.writer to 'on'")
    for sql, count in ((STORE, options.stored), (QUEUE, options.pending)):
        for first in range(0, count, 100_000):
            await admin.execute(sql, min(100_000, count - first))
    async with pgq, common.part(__file__, "--loop", options.loop, "--serve", dsn) as web:
        port = int(await common.line_of(web))
        watched = await pgq.enqueue_many(
            [noop.options(queue="nobody works here").s(number) for number in range(options.streams)]
        )

        async def enqueue() -> list[JobHandle[None]]:
            handles: list[JobHandle[None]] = []
            for first in range(0, options.jobs, BATCH):
                numbers = range(first, min(first + BATCH, options.jobs))
                handles += await pgq.enqueue_many([noop.s(number) for number in numbers])
            # What follows starts from the same state of the tables each time.
            await admin.execute("vacuum analyze")
            await admin.execute("checkpoint")
            return handles

        async def drain(handles: list[JobHandle[None]]) -> float:
            started = time.perf_counter()
            async with pgq.worker(queues=["default"], concurrency=options.concurrency):
                await handles[-1].result()
                # The last one to be claimed need not be the last one to end.
                while await admin.fetchval("select exists (select from pgqueue.running)"):
                    pass
                seconds = time.perf_counter() - started
            return int(options.jobs) / seconds

        alone = await drain(await enqueue())
        handles = await enqueue()
        counts = ("--polls", str(options.polls), "--streams", str(options.streams))
        async with common.part(__file__, "--loop", options.loop, *counts, "--load", str(port)) as clients:
            assert clients.stdin is not None
            sample = random.sample(handles, min(1000, len(handles)))
            ids = {
                "polled": [str(handle.id) for handle in sample],
                "watched": [str(handle.id) for handle in watched],
            }
            clients.stdin.write(json.dumps(ids).encode() + b"\n")
            await common.line_of(clients)
            spent = await common.ask(web)
            beside = await drain(handles)
            clients.stdin.close()
            figures: dict[str, float] = json.loads(await common.line_of(clients))
            spent = await common.ask(web) - spent
        overview = await look(port)
    await admin.close()
    return {
        "alone_jobs_per_s": alone,
        "beside_jobs_per_s": beside,
        "beside_to_alone_ratio": beside / alone,
        **figures,
        # With what the streams cost meanwhile.
        "web_us_per_poll": spent * 1_000_000 / max(1.0, figures["polls"]),
        **overview,
    }


async def look(port: int) -> dict[str, float]:
    """Return how long the pages about everything take, in milliseconds: those that the app serves."""
    figures: dict[str, float] = {}
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for path in OVERVIEW_PATHS:
        times = []
        for _ in range(OVERVIEW_LOOKS):
            started = time.perf_counter()
            status = await get(reader, writer, path)
            times.append((time.perf_counter() - started) * 1000)
            if status == 404:
                break
            if status != 200:
                raise SystemExit(f"benchmark: {path} answers {status}: nothing measured")
        else:
            name = path.strip("/")
            figures[f"{name}_ms_first"] = times[0]
            figures[f"{name}_ms_p50"] = common.percentile(times, 0.5)
            figures[f"{name}_ms_max"] = max(times)
    writer.close()
    return figures


def main() -> None:
    """Read the command line and measure."""
    parser = common.arguments(__doc__)
    parser.add_argument("--jobs", type=int, default=200_000, help="drained in each half of a round")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--polls", type=int, default=1000, help="a second (%(default)s)")
    parser.add_argument("--streams", type=int, default=500, help="open all the time (%(default)s)")
    parser.add_argument("--stored", type=int, default=0, help="finished jobs that are there already")
    parser.add_argument("--pending", type=int, default=0, help="jobs that wait in another queue")
    parser.add_argument("--serve", help="(internal) be the status app on this database")
    parser.add_argument("--load", type=int, help="(internal) be the clients of the app on this port")
    options = parser.parse_args()

    async def benchmark() -> None:
        if options.serve:
            await serve(options.serve)
            return
        if options.load:
            await load(options.load, polls=options.polls, streams=options.streams)
            return
        with common.server(options.dsn) as server:
            machine = await common.describe(server, options.loop)
            rounds = []
            for _ in range(options.rounds):
                async with common.database(server) as dsn:
                    rounds.append(await measure(dsn, options))
        what = (
            f"polls: {options.jobs:,} no-op jobs drained by one worker, alone and beside "
            f"{options.polls:,} polls a second and {options.streams:,} event streams; "
            f"{options.stored:,} jobs stored, {options.pending:,} pending"
        )
        common.report(what, machine, rounds, as_json=options.json)

    common.run(options.loop, benchmark)


if __name__ == "__main__":
    main()
