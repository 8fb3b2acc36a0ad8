"""Writes workflows, each by one statement, on a connection of our own or in the caller's transaction."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING

import anyio
import asyncpg

from pgqueue.background.notifications import Signals
from pgqueue.database.encoding import UNSTORABLE, unstorable
from pgqueue.database.outages import CONNECTION_ERRORS, RECONNECT_PAUSES, refused, unavailable
from pgqueue.database.pool import Database
from pgqueue.enqueueing.writer import Writer
from pgqueue.flow.backpressure import Depths
from pgqueue.store import Graph, Store

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class WorkflowWriter:
    """Writes the workflows of one PgQueue."""

    def __init__(
        self, database: Database, store: Store, signals: Signals, depths: Depths, writer: Writer
    ) -> None:
        self._database = database
        self._store = store
        self._signals = signals
        self._depths = depths
        self._writer = writer

    async def write(self, graph: Graph, connection: Connection | None) -> None:
        """Write a workflow. Raises QueueFullError, DatabaseUnavailableError."""
        names = graph.lanes
        lanes = self._writer.lanes
        if connection is None:
            await lanes.learn(names)
            writing = partial(self._write_own, graph)
        else:
            ids: Mapping[tuple[str, int], int] = {}
            if not names <= lanes.known.keys():
                ids = await lanes.learn_beside(connection, names)
            writing = partial(self._write_for_caller, graph, connection, ids)
        if self._depths.is_limited:
            counts = Counter(job.template.lane[0] for job in graph.first_jobs())
            await self._writer.write_where_room(counts, writing)
        else:
            await writing()

    async def _write_own(self, graph: Graph) -> None:
        began_at = time.monotonic()
        is_unsure = False
        for pause in chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1])):
            try:
                async with self._database.writer() as connection:
                    settled = await self._store.submit_workflow(connection, graph)
                for lane in settled.lanes:
                    self._signals.publish(f"ready {lane}")
                return
            except asyncpg.UniqueViolationError:
                # Our own earlier try, whose answer was lost: the polls find its jobs.
                if is_unsure:
                    return
                raise
            except CONNECTION_ERRORS as error:
                is_unsure = True
                if (seconds := time.monotonic() - began_at) >= self._database.connect_timeout:
                    raise unavailable(error, seconds) from error
                await anyio.sleep(pause)
            except asyncpg.PostgresError as error:
                raise refused(error, time.monotonic() - began_at) from error

    async def _write_for_caller(
        self, graph: Graph, connection: Connection, lane_ids: Mapping[tuple[str, int], int]
    ) -> None:
        """Write in the caller's transaction; if the write fails, a savepoint keeps the rest of it whole."""
        try:
            try:
                await self._write_part(graph, connection, lane_ids)
            except (asyncpg.NotNullViolationError, asyncpg.SerializationError):
                # A lane was removed, or is younger than the transaction's snapshot: by its id it can be used.
                if lane_ids:
                    raise
                lane_ids = await self._writer.lanes.learn_beside(connection, graph.lanes)
                await self._write_part(graph, connection, lane_ids)
        except UNSTORABLE as error:
            raise unstorable(error) from error

    async def _write_part(
        self, graph: Graph, connection: Connection, lane_ids: Mapping[tuple[str, int], int]
    ) -> None:
        async with connection.transaction():
            settled = await self._store.submit_workflow(connection, graph, lane_ids)
            if settled.lanes:
                messages = [f"ready {lane}" for lane in sorted(settled.lanes)]
                await self._store.notify(connection, self._database.schema, messages)
