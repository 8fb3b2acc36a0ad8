"""DBOS on PostgreSQL: a workflow that enqueues its members to a queue and awaits them; a workflow of steps.

The chord is what its documentation calls fan out and fan in: members are child workflows, so that any process
may run them. The links of the chain are steps of one workflow, one after the other in one process: the least
that DBOS has to do for a result that outlives the process. Tuned: a look into the queue every 50 ms (the
default is 1 s), as many workflows side by side as the others have, a pool of 20 connections, and all members
awaited at once (one by one the body starts six times as late).
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

from contest import CONCURRENCY, Settings, arguments, board, run, told_to_stop
from dbos import DBOS, DBOSClient
from workflow_contest import Composer, main

URL = Settings.from_environment().url
NOTES = board()

COMPOSED, MEMBERS = "composed", "members"
LOOK_EVERY = 0.05


@DBOS.workflow()
async def member(to: str, number: int, amount: float) -> int:
    NOTES.ran(number)
    return number


@DBOS.step()
async def body(results: list[int], number: int, members: int) -> None:
    assert len(results) == members
    NOTES.ran(number)


@DBOS.step()
async def link(number: int) -> int:
    NOTES.ran(number)
    return number + 1


@DBOS.workflow()
async def chord(first: int, number: int) -> None:
    handles = [
        await DBOS.enqueue_workflow_async(MEMBERS, member, *arguments(each)) for each in range(first, number)
    ]
    results = await asyncio.gather(*(handle.get_result() for handle in handles))
    await body(results, number, number - first)


@DBOS.workflow()
async def chain(first: int, stop: int) -> None:
    number = first
    while number < stop:
        number = await link(number)


class WithDbos(Composer):
    async def __aenter__(self) -> Self:
        self.client = DBOSClient(system_database_url=URL)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.client.destroy()

    async def prepare(self) -> None:
        await launch()
        DBOS.destroy()

    async def submit_chord(self, numbers: range, body_number: int) -> None:
        await self._submit("chord", numbers[0], body_number)

    async def submit_chain(self, numbers: range) -> None:
        await self._submit("chain", numbers[0], numbers[-1] + 1)

    async def _submit(self, name: str, *given: Any) -> None:
        await self.client.enqueue_async({"workflow_name": name, "queue_name": COMPOSED}, *given)

    def work(self) -> None:
        async def work() -> None:
            await launch()
            await told_to_stop()
            DBOS.destroy()

        run(work())


async def launch() -> None:
    """Open it; the queues are rows of its database."""
    DBOS(
        config={
            "name": "contest",
            "system_database_url": URL,
            "sys_db_pool_size": 20,
            "application_version": "contest",
            "log_level": "WARNING",
        }
    )
    DBOS.launch()
    await DBOS.register_queue_async(COMPOSED, polling_interval_sec=LOOK_EVERY)
    await DBOS.register_queue_async(MEMBERS, worker_concurrency=CONCURRENCY, polling_interval_sec=LOOK_EVERY)


if __name__ == "__main__":
    main(WithDbos)
