"""pgqueue: enqueue_many, one worker. Arguments are validated twice; status, times and result are kept."""

from __future__ import annotations

from typing import Self

import asyncpg
from contest import CONCURRENCY, Contestant, arguments, board, main, run, told_to_stop

from pgqueue import PgQueue


class WithPgQueue(Contestant):
    """Nothing is tuned."""

    def __init__(self) -> None:
        super().__init__()
        self.pgq = PgQueue(self.url)
        notes = board()

        @self.pgq.task
        async def noop(to: str, number: int, amount: float) -> None:  # arguments as real jobs have
            notes.ran(number)

        self.noop = noop

    async def __aenter__(self) -> Self:
        await self.pgq.open()
        self.watcher = await asyncpg.connect(self.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.watcher.close()
        await self.pgq.close()

    async def prepare(self) -> None:
        await self.pgq.migrate()

    async def enqueue_one(self, number: int) -> None:
        await self.noop.enqueue(*arguments(number))

    async def enqueue_many(self, numbers: range) -> None:
        await self.pgq.enqueue_many([self.noop.s(*arguments(number)) for number in numbers])

    async def outcomes(self) -> int:
        kept: int = await self.watcher.fetchval("select count(*) from pgqueue.job where status = 'succeeded'")
        return kept

    def work(self) -> None:
        async def work() -> None:
            async with self.pgq, self.pgq.worker(concurrency=CONCURRENCY):
                await told_to_stop()

        run(work())


if __name__ == "__main__":
    main(WithPgQueue)
