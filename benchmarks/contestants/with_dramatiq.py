"""Dramatiq on Redis, broker and results: single calls, one worker process.

Handlers are plain functions: coroutines are possible, but each occupies one of the worker's threads all the
same. Its default of 8 threads: for a handler that does nothing, more of them only contend. Arguments are
not validated.
"""

from __future__ import annotations

import os
import sys

import dramatiq
from contest import KEEP, Contestant, Settings, arguments, board, main
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL = Settings.from_environment().url
NOTES = board()

broker = RedisBroker(url=URL)
backend = RedisBackend(url=URL, use_namespace_prefix_keys=True)
broker.add_middleware(Results(backend=backend, store_results=True, result_ttl=KEEP * 1000))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop(to: str, number: int, amount: float) -> None:
    NOTES.ran(number)


class WithDramatiq(Contestant):
    coroutines = False

    async def enqueue_one(self, number: int) -> None:
        noop.send(*arguments(number))

    async def enqueue_many(self, numbers: range) -> None:
        for number in numbers:
            noop.send(*arguments(number))

    async def outcomes(self) -> int:
        return len(broker.client.keys("dramatiq-results:*"))

    def work(self) -> None:
        os.execv(  # noqa: S606  # its command line is how its workers are run
            sys.executable,
            [sys.executable, "-m", "dramatiq", "with_dramatiq", "--processes=1", "--threads=8"],
        )


if __name__ == "__main__":
    main(WithDramatiq)
