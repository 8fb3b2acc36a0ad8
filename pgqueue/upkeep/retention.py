"""Removes jobs after their retention: whole days where nothing is to be kept, single jobs elsewhere.

One worker at a time does it, any of them. It takes its time: after each step it pauses for several times as
long as the step took, so that claims do not feel it. A pass may take minutes, so it has a connection and a
round of its own, and no other chore waits for it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar
from uuid import UUID

import anyio

from pgqueue.database.failing import log_fields
from pgqueue.database.link import Link
from pgqueue.database.outages import is_away, told
from pgqueue.model.ids import new_id
from pgqueue.options.retention import DAY, Retention
from pgqueue.store import Partition, Store
from pgqueue.upkeep.chore import Chore

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.worker")

P = ParamSpec("P")
T = TypeVar("T")

FIRST_PASS = 5.0
"""Seconds after its start before a worker first looks: one that runs only a few jobs need not."""
PASS_INTERVAL = 600.0
"""Minimum seconds between two passes."""
PAUSE_SHARE = 9
"""A step is followed by a pause of this many times its own length, and so is a pass."""
STEP = 2000
"""Jobs in one step."""
PARTS = 8
"""Into so many parts a step that fails is divided, each time."""
CHORE = "purge"
CHORE_TTL = 120.0
"""Seconds after which another worker may take over from one that no longer reports."""
DROP_TRIES = 20
DROP_PAUSE = 0.5
"""Seconds between two tries to drop a partition that is in use."""

FIRST_ID, LAST_ID = UUID(int=0), UUID(int=2**128 - 1)


def ranges(partitions: Sequence[Partition]) -> Iterator[tuple[UUID, UUID, Partition | None]]:
    """Yield the ranges of ids to go through: first id, end (not included) and partition, oldest first.

    There is one for each day that has jobs past the retention, up to the first id that is not past it, with
    the day's partition if the range is all of it. And there is one for what lies between and around the days:
    ids that have no time, or whose day has no partition.
    """
    after = FIRST_ID
    for partition in partitions:
        if after < partition.low:
            yield after, partition.low, None
        if partition.low < partition.limit_id:
            end = min(partition.high, partition.limit_id)
            yield partition.low, end, partition if partition.is_old else None
        after = partition.high
    yield after, LAST_ID, None


class Purging(Chore):
    """Removes jobs after their retention."""

    name = "removing jobs after their retention"

    def __init__(self, store: Store, link: Link, retention: Retention, ask_link: Link | None = None) -> None:
        """*ask_link*: on which it asks whether it is time, because *link* is open during a pass alone."""
        super().__init__()
        self._store = store
        self._link = link
        self._ask_link = ask_link or link
        self._retention = retention
        self._id = new_id()
        self._kept_until = 0.0
        self.due_at = time.monotonic() + FIRST_PASS

    async def run(self) -> float:
        """Make a pass through the jobs, unless another worker does, or has done so lately."""
        if self._retention.shortest is None:
            return math.inf
        await self._pass()
        # The connection would be idle for minutes.
        await self._link.close()
        return PASS_INTERVAL / 10

    async def _pass(self) -> None:
        """Go through all jobs that may be past their retention, unless another worker does."""
        started_at = time.monotonic()
        self._kept_until = 0.0
        if not await self._keep_chore():
            return
        removed = dropped = 0
        shortest = self._retention.shortest
        assert shortest is not None
        # Where that adds little, wait for a whole day: it is dropped then, which is cheaper than deleting its
        # jobs.
        age = shortest + (DAY if shortest >= 2 * DAY else 0)
        partitions = await self._step(self._store.find_day_partitions, age)
        for low, high, partition in ranges(partitions):
            if partition is not None and await self._can_drop(partition):
                dropped += 1
            else:
                removed += await self._purge(low, high)
        if removed or dropped:
            logger.info("retention: removed %d jobs and dropped %d daily partitions", removed, dropped)
        rest = max(PASS_INTERVAL, PAUSE_SHARE * (time.monotonic() - started_at))
        await self._step(self._store.end_chore, CHORE, self._id, rest)

    async def _purge(self, low: UUID, high: UUID) -> int:
        """Remove the jobs of a range that are past their retention; return their number."""
        removed = 0
        start, size = low, STEP
        while await self._keep_chore():
            try:
                step = await self._step(self._store.purge, start, high, size, self._retention)
            except Exception as error:
                if is_away(error):
                    raise
                # A part of the jobs, down to the one that cannot be removed, which stays.
                if size > 1:
                    size = max(1, size // PARTS)
                    continue
                broken = await self._step(self._store.find_job_from, start, high)
                if broken is None:
                    break
                logger.error(
                    "retention: job %s cannot be removed (%s); the others continue",
                    broken,
                    told(error),
                    extra=log_fields(error),
                )
                start, size = _behind(broken), STEP
                continue
            removed += step.removed
            if step.looked < size or step.reached is None:
                break
            start = _behind(step.reached)
        return removed

    async def _can_drop(self, partition: Partition) -> bool:
        """Drop a day; an error in it leaves it to be removed job by job."""
        try:
            return await self._drop(partition)
        except Exception as error:
            if is_away(error):
                raise
            logger.error(  # what fails is a statement: its stack says nothing
                "retention: partition %s cannot be dropped (%s); removing its jobs one by one",
                partition.name,
                told(error),
                extra=log_fields(error),
            )
            return False

    async def _drop(self, partition: Partition) -> bool:
        """Drop a day if all its jobs are past their retention; return whether it was dropped."""
        bounds: list[UUID] = [partition.low]
        while True:
            if not await self._keep_chore():
                return False
            step = await self._step(
                self._store.check_retention, bounds[-1], partition.high, STEP, self._retention
            )
            if not step.are_past:
                return False
            if step.looked < STEP or step.reached is None:
                break
            bounds.append(_behind(step.reached))
        bounds.append(partition.high)
        for low, high in pairwise(bounds):
            await self._step(self._store.forget_range, low, high)
        for _ in range(DROP_TRIES):
            if await self._step(self._store.drop_partition, partition):
                return True
            await anyio.sleep(DROP_PAUSE)
        return False

    async def _step(
        self, do: Callable[Concatenate[Connection, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do one step, and pause."""
        started_at = time.monotonic()
        async with self._link.use() as connection:
            value = await do(connection, *args, **kwargs)
        await anyio.sleep(PAUSE_SHARE * (time.monotonic() - started_at))
        return value

    async def _keep_chore(self) -> bool:
        """Begin the pass or continue it; False: another worker is making it, or it is not time yet."""
        now = time.monotonic()
        if now < self._kept_until:
            return True
        async with self._ask_link.use() as connection:
            is_ours = await self._store.take_chore(connection, CHORE, self._id, CHORE_TTL)
        if is_ours:
            self._kept_until = now + CHORE_TTL / 4
        return is_ours


def _behind(job_id: UUID) -> UUID:
    return UUID(int=min(job_id.int + 1, LAST_ID.int))
