"""awa-pg: enqueue_many_copy, one worker process with a queue of 100 workers; its engine is written in Rust.

Tuned: a pool of 20 connections, and a look every 10 ms (the default of 200 is what one waits for an idle
worker). Its storage as a new installation gets it. Arguments become a dataclass. Completed jobs are kept
for a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from awa import AsyncClient, Job
from contest import CONCURRENCY, Contestant, arguments, board, main, run, told_to_stop


@dataclass
class Noop:
    to: str
    number: int
    amount: float


class WithAwa(Contestant):
    def __init__(self) -> None:
        super().__init__()
        # It takes no URL without a host; that of a socket's folder in the query goes before this one.
        self.url = self.url.replace("@/", "@localhost/")

    async def __aenter__(self) -> Self:
        self.client = AsyncClient(self.url, max_connections=20)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def prepare(self) -> None:
        async with self:
            await self.client.migrate()
            await self.client.install_queue_storage()

    async def enqueue_one(self, number: int) -> None:
        await self.client.insert(Noop(*arguments(number)))

    async def enqueue_many(self, numbers: range) -> None:
        await self.client.enqueue_many_copy([Noop(*arguments(number)) for number in numbers])

    async def outcomes(self) -> int:
        return sum(each.completed_last_hour for each in await self.client.queue_stats())

    def work(self) -> None:
        notes = board()

        async def work() -> None:
            async with self:

                @self.client.task(Noop)
                async def noop(job: Job) -> None:
                    notes.ran(job.args.number)

                await self.client.start(
                    [("default", CONCURRENCY)], poll_interval_ms=10, completed_retention_hours=24
                )
                await told_to_stop()
                await self.client.shutdown()

        run(work())


if __name__ == "__main__":
    main(WithAwa)
