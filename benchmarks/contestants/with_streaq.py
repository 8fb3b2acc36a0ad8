"""streaq: enqueue_many, one worker of 100 jobs, which prefetches as many again by default.

Arguments are not validated. Results are kept as long as `ttl` says.
"""

from __future__ import annotations

from typing import Self

from contest import CONCURRENCY, KEEP, Contestant, arguments, board, main, run
from streaq import Worker


class WithStreaq(Contestant):
    def __init__(self) -> None:
        super().__init__()
        self.worker = Worker(redis_url=self.url, concurrency=CONCURRENCY)
        notes = board()

        @self.worker.task(name="noop", ttl=KEEP)
        async def noop(to: str, number: int, amount: float) -> None:
            notes.ran(number)

        self.noop = noop

    async def __aenter__(self) -> Self:
        await self.worker.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.worker.__aexit__(None, None, None)

    async def enqueue_one(self, number: int) -> None:
        await self.noop.enqueue(*arguments(number))

    async def enqueue_many(self, numbers: range) -> None:
        await self.worker.enqueue_many([self.noop.enqueue(*arguments(number)) for number in numbers])

    async def outcomes(self) -> int:
        return len(await self.worker.redis.keys("streaq:*:task:results:*"))

    def work(self) -> None:
        run(self.worker.run_async())


if __name__ == "__main__":
    main(WithStreaq)
