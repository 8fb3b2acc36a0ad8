"""Celery on Redis, broker and results: single calls over one producer, one worker.

Handlers are plain functions, as Celery has no coroutines; 100 threads in one process are what comes nearest
to the others. Tuned: a prefetch multiplier of 64, as its optimising page says for many short tasks; no
gossip, mingle and heartbeat among workers. Arguments are not validated. Each call also subscribes to its
result, as it does by default where Redis keeps the results.
"""

from __future__ import annotations

from celery import Celery
from contest import CONCURRENCY, KEEP, Contestant, Settings, arguments, board, main

URL = Settings.from_environment().url
NOTES = board()

app = Celery("contest", broker=URL, backend=URL)
app.conf.update(
    worker_prefetch_multiplier=64,
    result_expires=KEEP,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="noop")
def noop(to: str, number: int, amount: float) -> None:
    NOTES.ran(number)


class WithCelery(Contestant):
    coroutines = False

    async def enqueue_one(self, number: int) -> None:
        noop.delay(*arguments(number))

    async def enqueue_many(self, numbers: range) -> None:
        with app.producer_pool.acquire(block=True) as producer:
            for number in numbers:
                noop.apply_async(arguments(number), producer=producer)

    async def outcomes(self) -> int:
        return len(app.backend.client.keys("celery-task-meta-*"))

    def work(self) -> None:
        options = ["--pool=threads", f"--concurrency={CONCURRENCY}", "--loglevel=WARNING"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        app.worker_main(["worker", *options, *quiet])


if __name__ == "__main__":
    main(WithCelery)
