"""Dramatiq on Redis, broker and results: a group with a completion callback, and a pipeline; one worker.

Its callback is not given the results, so it has less to do than the bodies of others. As in with_dramatiq.py:
plain functions, 8 threads, and results kept. A pipeline's first message has the second one in it, and so on:
1,000 of them are deeper than Python's encoder of JSON goes by itself, so it is allowed more here, on a stack
that holds it.
"""

from __future__ import annotations

import os
import sys

import dramatiq
from contest import KEEP, Settings, arguments, board
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as RateLimits
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from workflow_contest import Composer, main

URL = Settings.from_environment().url
NOTES = board()

sys.setrecursionlimit(100_000)

broker = RedisBroker(url=URL)
backend = RedisBackend(url=URL, use_namespace_prefix_keys=True)
broker.add_middleware(Results(backend=backend, store_results=True, result_ttl=KEEP * 1000))
broker.add_middleware(GroupCallbacks(RateLimits(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor
def member(to: str, number: int, amount: float) -> int:
    NOTES.ran(number)
    return number


@dramatiq.actor
def body(number: int) -> None:
    NOTES.ran(number)


@dramatiq.actor
def link(number: int) -> int:
    NOTES.ran(number)
    return number + 1


class WithDramatiq(Composer):
    coroutines = False

    async def submit_chord(self, numbers: range, body_number: int) -> None:
        members = dramatiq.group([member.message(*arguments(number)) for number in numbers])
        members.add_completion_callback(body.message(body_number))
        members.run()

    async def submit_chain(self, numbers: range) -> None:
        dramatiq.pipeline([link.message(numbers[0]), *[link.message() for _ in numbers[1:]]]).run()

    def work(self) -> None:
        os.execv(  # noqa: S606  # its command line is how its workers are run
            sys.executable,
            [sys.executable, "-m", "dramatiq", "workflows_dramatiq", "--processes=1", "--threads=8"],
        )


if __name__ == "__main__":
    main(WithDramatiq)
