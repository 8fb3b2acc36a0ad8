"""Publishes the metrics of a process, and measures the database when they are read."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import asyncpg
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from pgqueue.app import PgQueue
from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.errors import DatabaseUnavailableError, NotOpenError, PgQueueError
from pgqueue.metrics import declared
from pgqueue.metrics.counters import count_events
from pgqueue.metrics.gauges import Snapshot, families
from pgqueue.metrics.labels import Cap
from pgqueue.metrics.multiprocess import ProcessReports
from pgqueue.own_tasks import owning_tasks

logger = logging.getLogger("pgqueue.metrics")

FRESH: Final = 1.0
"""Seconds for which a measurement is reused: any number of scrapes cost the database one per second."""
STALE: Final = 60.0
"""Seconds after which a measurement is no longer shown."""
ANSWER_WITHIN: Final = 5.0
"""Seconds for the database to answer. After them it counts as down."""
AWAY: Final = (DatabaseUnavailableError, NotOpenError, TimeoutError, *CONNECTION_ERRORS)


class DatabaseMetrics:
    """Metrics of the database's queues and workers, without those of this process.

    *registry*: where the metrics are registered (default: a new registry).
    """

    content_type: Final = CONTENT_TYPE_LATEST

    def __init__(self, pgq: PgQueue, *, registry: CollectorRegistry | None = None) -> None:
        self._pgq = pgq
        self.registry = CollectorRegistry() if registry is None else registry
        self._database = _Database()
        self._measuring = anyio.Lock()
        self.registry.register(self._database)

    async def render(self) -> bytes:
        """Measure the database, and return all metrics in the text format named by `content_type`."""
        await self.measure()
        return generate_latest(self.registry)

    @asynccontextmanager
    async def refreshing(self, *, every: float = 5.0) -> AsyncIterator[None]:
        """Measure the database inside the block, with pauses of *every* seconds.

        Use this if your service has its own registry and endpoint: an endpoint that collects the registry
        cannot await. You do not need it if each scrape calls `render`.
        """
        async with anyio.create_task_group() as group:
            with owning_tasks():
                group.start_soon(self._refresh, every)
            yield
            group.cancel_scope.cancel()

    async def _refresh(self, every: float) -> None:
        while True:
            await self.measure()
            await anyio.sleep(every)

    async def measure(self) -> None:
        """Measure the database, unless it was measured within the last second.

        If it does not answer, the metrics of queues and workers are left out until it does.
        """
        async with self._measuring:
            if self._database.age < FRESH:
                return
            try:
                with anyio.fail_after(ANSWER_WITHIN):
                    snapshot = Snapshot(
                        await self._pgq.measure(),
                        await self._pgq.list_workers(jobs=1),
                        await self._pgq.oldest_dead_letter_age(),
                        await self._pgq.measure_workflows(),
                        await self._pgq.schedules.measure(),
                        await self._pgq.limits(),
                        await self._pgq.ordered_groups(),
                        await self._pgq.now(),
                        await self._pgq.limiters(limit=1000),
                    )
            except AWAY:
                self._database.take(None)
            except (asyncpg.PostgresError, PgQueueError) as error:
                # Not raised: a service refreshes in the background, and its own work must go on.
                logger.warning("the queues cannot be measured: %s", error)
                self._database.take(None)
            else:
                self._database.take(snapshot)


class Metrics(DatabaseMetrics):
    """Counts the events of this process from now on, and measures the database's queues and workers.

    *registry*: where the metrics are registered (default: a new registry). Raises ConfigurationError if it
    has pgqueue's metrics already.
    """

    def __init__(self, pgq: PgQueue, *, registry: CollectorRegistry | None = None) -> None:
        super().__init__(pgq, registry=count_events(pgq, registry))


class SupervisorMetrics(DatabaseMetrics):
    """Adds up the reports of a supervisor's processes, and measures the database's queues and workers."""

    def __init__(self, pgq: PgQueue, reports: ProcessReports) -> None:
        super().__init__(pgq)
        self._reports = reports
        self.registry.register(reports)

    async def measure(self) -> None:
        """Ask the processes for their reports, and measure the database."""
        await self._reports.ask()
        await super().measure()


class _Database(Collector):
    """The latest measurement of the database. It may be collected from any thread."""

    def __init__(self) -> None:
        self._latest: tuple[float, Snapshot | None] | None = None
        self._cap, self._limit_cap = Cap(), Cap()

    def take(self, snapshot: Snapshot | None) -> None:
        """Show *snapshot* from now on. None: the database did not answer."""
        # One assignment: a thread that collects meanwhile sees the old pair or the new one, not half of each.
        self._latest = time.monotonic(), snapshot

    @property
    def age(self) -> float:
        """Seconds since the latest measurement."""
        return float("inf") if self._latest is None else time.monotonic() - self._latest[0]

    def describe(self) -> Iterable[Metric]:
        """Return the families without their values."""
        return [declared.DATABASE_UP.gauge(), *self._families(None)]

    def collect(self) -> Iterable[Metric]:
        """Return the latest measurement, unless it is stale."""
        latest, up = self._latest, declared.DATABASE_UP.gauge()
        if latest is None or time.monotonic() - latest[0] > STALE:
            return [up, *self._families(None)]
        up.add_metric([], float(latest[1] is not None))
        return [up, *self._families(latest[1])]

    def _families(self, snapshot: Snapshot | None) -> list[Metric]:
        return families(snapshot, cap=self._cap, limit_cap=self._limit_cap)
