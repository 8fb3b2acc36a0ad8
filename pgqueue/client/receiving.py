"""Receiving jobs without a worker: for consumers that are no handlers.

A received job is running, as under a worker. What a lease is to a worker, a receipt is to a received job: a
lease of its own, which holds it alone and is the fence of what ends it. So nobody else claims it, its time
is over like that of a lost worker, and retries, limits, order, dead letters and the history are the same.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio

from pgqueue.client.parts import Parts
from pgqueue.client.receipts import Receipts, read_lease
from pgqueue.client.received import ReceivedJob
from pgqueue.events.attempts import JobsClaimed, JobsStarted, JobStarted
from pgqueue.model.checks import Duration, integer, some_seconds, text
from pgqueue.model.job_info import JobInfo
from pgqueue.options.levels import Options
from pgqueue.store import Lane, Received
from pgqueue.tasks.any_task import any_task

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

MOST: Final = 1000
"""Jobs that one call receives."""
MAX_QUEUE: Final = 200
POLL: Final = 1.0
"""Seconds between two looks of a receiver that waits. A notification ends them early."""
POLL_UNHEARD: Final = 0.1
"""... behind a pooler, where no notifications come."""


class ReceiveInterface(Parts):
    """What consumers ask for that are no handlers."""

    version: str | None
    _rng: random.Random
    _unknown_task_grace: float | None

    async def receive(
        self,
        queue: str,
        /,
        *,
        n: int = 1,
        wait: Duration = 0,
        lease: Duration = 30,
        name: str | None = None,
    ) -> list[ReceivedJob]:
        """Receive up to *n* pending jobs of *queue*, of any task; return an empty list if there are none.

        Each is held for *lease* seconds (0.1 to 12 hours) and returns to the queue afterwards, unless it was
        acknowledged, given back or extended: see ReceivedJob. Higher priorities come first, then the oldest.
        *wait*: seconds to wait for a job if there is none. *n*: up to 1000. *name*: of this consumer, in the
        jobs' histories. If the call is cancelled, jobs that it had just received return when their time is
        over. Raises InvalidOptionError, UnknownQueueError, DatabaseUnavailableError,
        MissingPrivilegeError.
        """
        self._check_open()
        text("receive: queue", queue, longest=MAX_QUEUE)
        self._check_declared("receive", queue)
        integer("receive: n", n, least=1, most=MOST)
        patience, lease = some_seconds("receive: wait", wait), read_lease("receive", lease)
        name = _default_name() if name is None else text("receive: name", name, longest=MAX_QUEUE)
        take = partial(self._receive_now, queue, n, lease, name)
        until = time.monotonic() + patience
        jobs = await take()
        if jobs or not patience:
            return jobs
        async with self._hearing(queue) as rest:
            # Once more at once: what was announced before it listened is not slept through.
            while not (jobs := await take()) and (left := until - time.monotonic()) > 0:
                await rest(left)
        return jobs

    @asynccontextmanager
    async def _hearing(self, queue: str) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
        """Listen for jobs of *queue*; yield what waits for them, for so many seconds at most."""
        lanes: set[int] = set()
        foreign: set[int] = set()
        unknown: set[int] = set()
        woken = anyio.Event()

        def hear(message: str) -> None:
            kind, _, lane = message.partition(" ")
            if kind == "ready" and int(lane) not in foreign:
                unknown.update({int(lane)} - lanes)
                woken.set()

        def wake() -> None:
            woken.set()

        async def rest(left: float) -> None:
            nonlocal woken, lanes
            if unknown:
                found = await self._database.repeat(
                    lambda connection: self._store.find_queue_lanes(connection, queue)
                )
                # Of a queue with thousands of lanes, some are only polled.
                lanes = found
                foreign.update(unknown - found)
                unknown.clear()
            pause = POLL_UNHEARD if self._database.is_pooled else POLL
            with anyio.move_on_after(min(pause, left)):
                await woken.wait()
            woken = anyio.Event()

        async with AsyncExitStack() as stack:
            if not self._database.is_pooled:
                await stack.enter_async_context(self._signals.listen(hear, wake))
            yield rest

    async def _receive_now(self, queue: str, n: int, lease: float, name: str) -> list[ReceivedJob]:
        unknown = self.registry.policy(any_task("*"), queue, Options())
        max_losses = json.dumps({**self.registry.loss_limits(), "*": unknown.max_losses})
        received_at = time.monotonic()
        # What an answer that was lost brought is asked for again, by this.
        key, tries = uuid4(), 0

        async def take(connection: Connection) -> list[Received]:
            nonlocal tries
            tries += 1
            return await self._store.receive(
                connection, queue, n, lease, name, self.version, max_losses, key, again=tries > 1
            )

        rows = await self._database.repeat(take)
        if not rows:
            return []
        self._tell_received(rows, queue, name)
        receipts = self._receipts()
        jobs = []
        for row in rows:
            info = _info(row, queue, name)
            try:
                call = await receipts.read_call(row.claimed)
            except Exception as error:
                # Codec and validators are the user's: one job must not hide the others.
                job = ReceivedJob(receipts, row, info, ((), {}), lease=lease, received_at=received_at)
                await receipts.put_off(job, error)
                continue
            jobs.append(ReceivedJob(receipts, row, info, call, lease=lease, received_at=received_at))
        return jobs

    def _tell_received(self, rows: list[Received], queue: str, name: str) -> None:
        claimed = tuple(row.claimed for row in rows)
        if self._observers.want(JobsClaimed):
            self._observers.emit(JobsClaimed(claimed, {0: Lane(0, queue, 0, "")}, (queue,)))
        if self._observers.want(JobsStarted):
            started = [
                JobStarted(each.id, each.task, queue, each.attempt, each.waited, name) for each in claimed
            ]
            self._observers.emit(JobsStarted(started))

    def _receipts(self) -> Receipts:
        return Receipts(
            self._database,
            self._store,
            self.registry,
            self._codec,
            self._signals,
            self._watches,
            self._observers,
            self._callers,
            self._rng,
            self.payload_limit,
            self._unknown_task_grace,
        )


def _info(row: Received, queue: str, name: str) -> JobInfo:
    claimed = row.claimed
    return JobInfo(
        job_id=claimed.id,
        task=claimed.task,
        queue=queue,
        priority=row.priority,
        attempt=claimed.attempt,
        losses=claimed.losses,
        key=claimed.key,
        headers=claimed.headers,
        worker=name,
        tags=claimed.tags,
        created=claimed.created,
    )


def _default_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"
