"""RQ: enqueue_many through a pipeline, one SimpleWorker.

Its worker runs one job at a time. SimpleWorker runs it in its own process, where the default forks for
each; it is the fastest that RQ has, and gives up what the fork isolates. Handlers are plain functions: RQ
runs a coroutine by an event loop of its own each. Arguments are not validated. Results are kept.
"""

from __future__ import annotations

from contest import KEEP, Contestant, arguments, board, main
from redis import Redis
from rq import Queue, SimpleWorker

NOTES = board()


def noop(to: str, number: int, amount: float) -> None:
    NOTES.ran(number)


class WithRq(Contestant):
    coroutines = False

    def __init__(self) -> None:
        super().__init__()
        self.redis = Redis.from_url(self.url)
        self.queue = Queue(connection=self.redis)

    async def enqueue_one(self, number: int) -> None:
        self.queue.enqueue("with_rq.noop", args=arguments(number), result_ttl=KEEP)

    async def enqueue_many(self, numbers: range) -> None:
        self.queue.enqueue_many(
            Queue.prepare_data("with_rq.noop", args=arguments(number), result_ttl=KEEP) for number in numbers
        )

    async def outcomes(self) -> int:
        kept: int = self.queue.finished_job_registry.get_job_count(cleanup=False)
        return kept

    def work(self) -> None:
        SimpleWorker([self.queue], connection=self.redis).work(logging_level="WARNING")


if __name__ == "__main__":
    main(WithRq)
