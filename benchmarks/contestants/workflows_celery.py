"""Celery on Redis, broker and results: chord and chain, one worker.

Tuned as in with_celery.py: 100 threads, as its handlers are plain functions, and many messages prefetched.
A member's result is stored, and its chord counted, in Redis; the body's message carries all results. Each
message of a chain carries all links behind it.
"""

from __future__ import annotations

import celery
from celery import Celery
from contest import CONCURRENCY, KEEP, Settings, arguments, board
from workflow_contest import Composer, main

URL = Settings.from_environment().url
NOTES = board()

app = Celery("contest", broker=URL, backend=URL)
app.conf.update(
    worker_prefetch_multiplier=64,
    result_expires=KEEP,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="member")
def member(to: str, number: int, amount: float) -> int:
    NOTES.ran(number)
    return number


@app.task(name="body")
def body(results: list[int], number: int, members: int) -> None:
    assert len(results) == members
    NOTES.ran(number)


@app.task(name="link")
def link(number: int) -> int:
    NOTES.ran(number)
    return number + 1


class WithCelery(Composer):
    coroutines = False

    async def submit_chord(self, numbers: range, body_number: int) -> None:
        members = [member.s(*arguments(number)) for number in numbers]
        celery.chord(members)(body.s(body_number, len(numbers)))

    async def submit_chain(self, numbers: range) -> None:
        celery.chain(link.s(numbers[0]), *[link.s() for _ in numbers[1:]])()

    def work(self) -> None:
        options = ["--pool=threads", f"--concurrency={CONCURRENCY}", "--loglevel=WARNING"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        app.worker_main(["worker", *options, *quiet])


if __name__ == "__main__":
    main(WithCelery)
