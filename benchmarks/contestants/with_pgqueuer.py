"""pgqueuer: enqueue with lists, one worker over an asyncpg pool.

Tuned: batches of 100, as large batches raise throughput (a batch is fetched and its outcomes are logged in
one statement each; the default is 10). No `max_concurrent_tasks`: it would have to be twice the batch, and
counts the worker's jobs at each claim; without it more than 100 jobs may run side by side, which is to its
advantage. Tables as it installs them, logged. A payload is bytes, which nothing validates. A finished job
leaves a row in its log.
"""

from __future__ import annotations

import asyncio
import json
from typing import Self

import asyncpg
from contest import CONCURRENCY, Contestant, arguments, board, main, run, told_to_stop
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries


class WithPgQueuer(Contestant):
    async def __aenter__(self) -> Self:
        self.pool = await asyncpg.create_pool(self.url)
        self.queries = Queries.from_asyncpg_pool(self.pool)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()

    async def prepare(self) -> None:
        async with self:
            await self.queries.install()

    async def enqueue_one(self, number: int) -> None:
        await self.queries.enqueue("noop", json.dumps(arguments(number)).encode())

    async def enqueue_many(self, numbers: range) -> None:
        payloads = [json.dumps(arguments(number)).encode() for number in numbers]
        await self.queries.enqueue(["noop"] * len(payloads), payloads, [0] * len(payloads))

    async def outcomes(self) -> int:
        kept: int = await self.pool.fetchval("select count(*) from pgqueuer_log where status = 'successful'")
        return kept

    def work(self) -> None:
        notes = board()

        async def work() -> None:
            pgqueuer = PgQueuer.from_asyncpg_pool(await asyncpg.create_pool(self.url))

            @pgqueuer.entrypoint("noop")
            async def noop(job: Job) -> None:
                _to, number, _amount = json.loads(job.payload or b"")
                notes.ran(number)

            working = asyncio.create_task(pgqueuer.run(batch_size=CONCURRENCY))
            await told_to_stop()
            pgqueuer.shutdown.set()
            await working

        run(work())


if __name__ == "__main__":
    main(WithPgQueuer)
