"""arq: it has no bulk API, so 100 single enqueues are on their way at a time; one worker of 100 jobs.

Tuned: a look every 10 ms (`poll_delay`; the default of 500 is what one waits for an idle worker). hiredis
is installed. Arguments are not validated. Results are kept.
"""

from __future__ import annotations

from typing import Self

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker
from contest import CONCURRENCY, KEEP, Contestant, arguments, board, main, run

NOTES = board()


async def noop(context: object, to: str, number: int, amount: float) -> None:
    NOTES.ran(number)


class WithArq(Contestant):
    async def __aenter__(self) -> Self:
        self.redis = await create_pool(RedisSettings.from_dsn(self.url))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.redis.aclose()

    async def enqueue_one(self, number: int) -> None:
        await self.redis.enqueue_job("noop", *arguments(number))

    async def outcomes(self) -> int:
        # A job leaves its queue in the transaction that writes its result.
        if await self.redis.zcard("arq:queue"):
            return 0
        return len(await self.redis.keys("arq:result:*"))

    def work(self) -> None:
        async def work() -> None:
            worker = Worker(
                functions=[noop],
                redis_settings=RedisSettings.from_dsn(self.url),
                max_jobs=CONCURRENCY,
                poll_delay=0.01,
                keep_result=KEEP,
            )
            await worker.async_run()

        run(work())


if __name__ == "__main__":
    main(WithArq)
