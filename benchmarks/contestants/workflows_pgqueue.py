"""pgqueue: chord and chain, each enqueued by one call. Results are validated where they are taken."""

from __future__ import annotations

from typing import Any, Self

from contest import CONCURRENCY, arguments, board, run, told_to_stop
from workflow_contest import Composer, main

from pgqueue import PgQueue, chain, chord


class WithPgQueue(Composer):
    """Nothing is tuned."""

    def __init__(self) -> None:
        super().__init__()
        self.pgq = PgQueue(self.url)
        notes = board()

        @self.pgq.task
        async def member(to: str, number: int, amount: float) -> int:
            notes.ran(number)
            return number

        @self.pgq.task
        async def body(results: list[int], number: int, members: int) -> None:
            assert len(results) == members
            notes.ran(number)

        @self.pgq.task
        async def link(number: int) -> int:
            notes.ran(number)
            return number + 1

        self.member, self.body = member, body
        self.link: Any = link

    async def __aenter__(self) -> Self:
        await self.pgq.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.pgq.close()

    async def prepare(self) -> None:
        await self.pgq.migrate()

    async def submit_chord(self, numbers: range, body: int) -> None:
        members = [self.member.s(*arguments(number)) for number in numbers]
        await chord(members, self.body.s(body, len(numbers))).enqueue()

    async def submit_chain(self, numbers: range) -> None:
        links = [self.link.s(numbers[0]), *[self.link.s() for _ in numbers[1:]]]
        await chain(*links).enqueue()

    def work(self) -> None:
        async def work() -> None:
            async with self.pgq, self.pgq.worker(concurrency=CONCURRENCY):
                await told_to_stop()

        run(work())


if __name__ == "__main__":
    main(WithPgQueue)
