"""saq, on PostgreSQL or on Redis: it has no bulk API, so 100 single enqueues are on their way at a time.

Its pool of at most 20 connections and its 20 Redis operations side by side are its defaults. hiredis is
installed. Arguments are not validated. Status and result are kept as long as `ttl` says.
"""

from __future__ import annotations

from typing import Self

from contest import CONCURRENCY, KEEP, Contestant, arguments, board, main, run
from saq import Queue, Worker

NOTES = board()


async def noop(context: object, *, to: str, number: int, amount: float) -> None:
    NOTES.ran(number)


class WithSaq(Contestant):
    async def __aenter__(self) -> Self:
        self.queue = Queue.from_url(self.url)
        await self.queue.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.queue.disconnect()

    async def prepare(self) -> None:
        async with self:
            pass

    async def enqueue_one(self, number: int) -> None:
        to, number, amount = arguments(number)
        await self.queue.enqueue("noop", to=to, number=number, amount=amount, ttl=KEEP)

    async def outcomes(self) -> int:
        if self.url.startswith("redis"):
            # A job leaves this set when it is finished, and stays as a key of its own.
            if await self.queue.redis.zcard(self.queue.namespace("incomplete")):
                return 0
            return len(await self.queue.redis.keys(self.queue.job_id("*")))
        async with self.queue.pool.connection() as connection:
            cursor = await connection.execute("select count(*) from saq_jobs where status = 'complete'")
            kept: int = (await cursor.fetchone())[0]
        return kept

    def work(self) -> None:
        async def work() -> None:
            async with self:
                await Worker(self.queue, functions=[noop], concurrency=CONCURRENCY).start()

        run(work())


if __name__ == "__main__":
    main(WithSaq)
