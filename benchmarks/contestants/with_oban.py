"""oban: enqueue_many, one worker process with a queue of limit 100.

Its own command line runs on uvloop. Its pool as it makes it, of at most 10 connections: outcomes are
acknowledged in batches by the one producer. Arguments are a dictionary, which nothing validates. Completed
jobs are kept for a day, without results.
"""

from __future__ import annotations

from typing import Self

from contest import CONCURRENCY, Contestant, arguments, board, main, run, told_to_stop
from oban import Oban, worker
from oban.job import Job
from oban.schema import install

NOTES = board()


@worker(queue="default")
class Noop:
    async def process(self, job: Job) -> None:
        NOTES.ran(job.args["number"])


def job(number: int) -> Job:
    values = dict(zip(("to", "number", "amount"), arguments(number), strict=True))
    return Noop.new(values)  # type: ignore[attr-defined]  # its decorator adds it


class WithOban(Contestant):
    async def __aenter__(self) -> Self:
        self.pool = await Oban.create_pool(self.url)
        self.oban = Oban(pool=self.pool)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pool.close()

    async def prepare(self) -> None:
        async with self:
            await install(self.pool)

    async def enqueue_one(self, number: int) -> None:
        await self.oban.enqueue(job(number))

    async def enqueue_many(self, numbers: range) -> None:
        await self.oban.enqueue_many([job(number) for number in numbers])

    async def outcomes(self) -> int:
        async with self.pool.connection() as connection:
            cursor = await connection.execute("select count(*) from oban_jobs where state = 'completed'")
            kept: int = (await cursor.fetchone())[0]
        return kept

    def work(self) -> None:
        async def work() -> None:
            pool = await Oban.create_pool(self.url)
            async with Oban(pool=pool, queues={"default": CONCURRENCY}):
                await told_to_stop()
            await pool.close()

        run(work())


if __name__ == "__main__":
    main(WithOban)
