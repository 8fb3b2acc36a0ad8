"""procrastinate: batch_defer_async, one worker with LISTEN/NOTIFY.

Tuned: a pool of 20 connections, since every job is fetched and finished by statements of its own and its
page on concurrency asks for enough connections. Arguments are not validated. Status and events are kept,
results never.
"""

from __future__ import annotations

from typing import Self

from contest import CONCURRENCY, Contestant, arguments, board, main, run
from procrastinate import App, PsycopgConnector

NAMES = ("to", "number", "amount")


class WithProcrastinate(Contestant):
    def __init__(self) -> None:
        super().__init__()
        self.app = App(connector=PsycopgConnector(conninfo=self.url, max_size=20))
        notes = board()

        @self.app.task(name="noop")
        async def noop(to: str, number: int, amount: float) -> None:
            notes.ran(number)

        self.noop = noop

    async def __aenter__(self) -> Self:
        await self.app.open_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.app.close_async()

    async def prepare(self) -> None:
        async with self:
            await self.app.schema_manager.apply_schema_async()

    async def enqueue_one(self, number: int) -> None:
        await self.noop.defer_async(**dict(zip(NAMES, arguments(number), strict=True)))

    async def enqueue_many(self, numbers: range) -> None:
        await self.noop.batch_defer_async(
            *(dict(zip(NAMES, arguments(number), strict=True)) for number in numbers)
        )

    async def outcomes(self) -> int:
        row: dict[str, int] = await self.app.connector.execute_query_one_async(
            "select count(*) as kept from procrastinate_jobs where status = 'succeeded'"
        )
        return row["kept"]

    def work(self) -> None:
        async def work() -> None:
            async with self:
                await self.app.run_worker_async(concurrency=CONCURRENCY)

        run(work())


if __name__ == "__main__":
    main(WithProcrastinate)
