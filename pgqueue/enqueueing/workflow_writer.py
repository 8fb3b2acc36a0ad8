"""Writes workflows, all or nothing, on a connection of our own or in the caller's transaction.

Most workflows are one part, and one statement. A large one overlaps itself as a large enqueue does (see
writer): while the server writes one part, the next one is compiled, and if that is refused the transaction is
rolled back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain, repeat
from types import MappingProxyType
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import asyncpg

from pgqueue.background.notifications import Signals
from pgqueue.database.callers import Refusal, refusal_of
from pgqueue.database.encoding import unstorable
from pgqueue.database.outages import (
    CONNECTION_ERRORS,
    RECONNECT_PAUSES,
    refused,
)
from pgqueue.database.patience import Tries
from pgqueue.database.pool import Database
from pgqueue.enqueueing.gc_pause import FEW, collector_paused
from pgqueue.enqueueing.writer import Writer, while_sending
from pgqueue.errors import DatabaseUnavailableError
from pgqueue.flow.backpressure import Depths
from pgqueue.flow.limits import Limits
from pgqueue.store import Graph, Settled, Store

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


LaneIds = Mapping[tuple[str, int], int]
NO_LANES: LaneIds = MappingProxyType({})


class Parts:
    """A workflow that is compiled part by part: `taken` has those that were. The last one has the root."""

    def __init__(self, parts: Iterable[Graph]) -> None:
        self.taken: list[Graph] = []
        self._rest = iter(parts)

    @property
    def is_whole(self) -> bool:
        """Whether every part was taken."""
        return bool(self.taken) and self.taken[-1].root is not None

    @property
    def root(self) -> UUID:
        """The root of the whole."""
        root = self.taken[-1].root
        assert root is not None
        return root

    @property
    def lanes(self) -> set[tuple[str, int]]:
        """The lanes of all jobs that were taken."""
        return {lane for part in self.taken for lane in part.lanes}

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """How many jobs of each task and queue were taken."""
        counts: Counter[tuple[str, str]] = Counter()
        for part in self.taken:
            templates = part.templates
            jobs = Counter(id(node.job.template) for node in part.nodes if node.job is not None)
            for number, count in jobs.items():
                template = templates[number]
                counts[template.task, template.lane[0]] += count
        return counts

    def take(self) -> None:
        """Take the next part. Raises what a workflow can be refused with."""
        with collector_paused(FEW):
            self.taken.append(next(self._rest))

    def take_all(self) -> None:
        """Take all that are left."""
        while not self.is_whole:
            self.take()


class WorkflowWriter:
    """Writes the workflows of one PgQueue."""

    def __init__(
        self,
        database: Database,
        store: Store,
        signals: Signals,
        depths: Depths,
        limits: Limits,
        writer: Writer,
    ) -> None:
        self._database = database
        self._store = store
        self._signals = signals
        self._depths = depths
        self._limits = limits
        self._writer = writer
        self._lanes = writer.lanes

    async def write(self, parts: Parts, connection: Connection | None) -> None:
        """Write a workflow, of which the first part was taken.

        Raises QueueFullError, DatabaseUnavailableError, and what the parts that are still to be taken raise.
        """
        if connection is not None or self._depths.is_limited:
            parts.take_all()
        names = parts.lanes
        for part in parts.taken:
            await self._declare(part)
        if connection is None:
            await self._lanes.learn(names)
            writing = partial(self._write_own, parts)
        else:
            ids: LaneIds = NO_LANES
            if not names <= self._lanes.known.keys():
                ids = await self._lanes.learn_beside(connection, names)
            writing = partial(self._write_for_caller, parts, connection, ids)
        if self._depths.is_limited:
            counts = Counter(job.template.lane[0] for part in parts.taken for job in part.first_jobs())
            await self._writer.write_where_room(counts, writing)
        else:
            await writing()

    async def _write_own(self, parts: Parts) -> None:
        tries = Tries(self._database.connect_timeout)
        is_unsure = is_written = False
        for pause in chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1])):
            try:
                if is_written:
                    async with self._database.lend() as connection:
                        await self._store.reach_standby(connection)
                    return
                async with self._database.writer() as connection:
                    settled = await self._write_parts(connection, parts)
                for lane in settled.lanes:
                    self._signals.publish(f"ready {lane}")
                if self._has_gates(parts):
                    await self._writer.attend(settled.notes)
                return
            except asyncpg.UniqueViolationError:
                # Our own earlier try, whose answer was lost: the polls find its jobs.
                if not is_unsure:
                    raise
                is_written = True
            except (DatabaseUnavailableError, *CONNECTION_ERRORS) as error:
                # Where there was no connection, nothing was sent.
                is_unsure |= not isinstance(error, DatabaseUnavailableError)
                tries.fail(error)
                await anyio.sleep(pause)
            except asyncpg.PostgresError as error:
                raise refused(error, tries.seconds) from error

    async def _write_parts(self, connection: Connection, parts: Parts) -> Settled:
        """Write all parts, and take those that were not while the server is at others.

        Returns the lanes that have new ready jobs, and the notes that were written.
        """
        settled = Settled()
        if parts.is_whole and len(parts.taken) == 1:
            await self._write_part(connection, parts.taken[0], settled)
            return settled
        async with connection.transaction():
            # The list grows meanwhile.
            for number, part in enumerate(parts.taken, 1):
                await self._lanes.learn(part.lanes)
                await self._declare(part)
                writing = self._write_part(connection, part, settled)
                if parts.is_whole or number < len(parts.taken):
                    await writing
                else:
                    await while_sending(writing, parts.take)
        return settled

    async def _declare(self, part: Graph) -> None:
        """Have the database know the limits of the jobs of a part."""
        if self._limits.are_declared:
            names = {name for node in part.nodes if node.job is not None for name, _ in node.job.gates}
            await self._writer.declare(self._limits.named(names))

    def _has_gates(self, parts: Parts) -> bool:
        return self._limits.are_declared and any(
            node.job is not None and node.job.gates for part in parts.taken for node in part.nodes
        )

    async def _write_part(
        self, connection: Connection, part: Graph, settled: Settled, lane_ids: LaneIds = NO_LANES
    ) -> None:
        written = await self._store.submit_workflow(connection, part, lane_ids)
        settled.lanes |= written.lanes
        settled.notes += written.notes

    async def _write_for_caller(self, parts: Parts, connection: Connection, lane_ids: LaneIds) -> None:
        """Write in the caller's transaction; if the write fails, a savepoint keeps the rest of it whole."""
        try:
            try:
                await self._write_all(parts, connection, lane_ids)
            except Exception as error:
                if lane_ids or refusal_of(error) is not Refusal.LANE:
                    raise
                lane_ids = await self._lanes.learn_beside(connection, parts.lanes)
                await self._write_all(parts, connection, lane_ids)
        except Exception as error:
            if refusal_of(error) is not Refusal.TEXT:
                raise
            raise unstorable(error) from error

    async def _write_all(self, parts: Parts, connection: Connection, lane_ids: LaneIds) -> None:
        settled = Settled()
        async with connection.transaction():
            for part in parts.taken:
                await self._write_part(connection, part, settled, lane_ids)
            messages = [f"ready {lane}" for lane in sorted(settled.lanes)]
            if self._has_gates(parts):
                messages.append("attend")
            if messages:
                await self._store.notify(connection, self._database.schema, messages)
