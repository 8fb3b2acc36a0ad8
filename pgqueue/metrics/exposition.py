"""The metrics of a process as one page: who measures the database, when, and what a scrape sees."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import asyncpg
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pgqueue.app import PgQueue
from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.errors import DatabaseUnavailableError, NotOpenError
from pgqueue.metrics.counters import count_events
from pgqueue.metrics.gauges import Snapshot, families
from pgqueue.metrics.labels import Cap
from pgqueue.metrics.multiprocess import ProcessReports

logger = logging.getLogger("pgqueue.metrics")

FRESH: Final = 1.0
"""Seconds for which a measure serves: any number of scrapes cost the database one a second."""
STALE: Final = 60.0
"""Seconds after which nothing is said of the database that nobody has asked since."""
ANSWER_WITHIN: Final = 5.0
"""Seconds that the database has to answer, before it counts as down."""
AWAY: Final = (DatabaseUnavailableError, NotOpenError, TimeoutError, *CONNECTION_ERRORS)


class DatabaseMetrics:
    """What the database's queues and workers look like; nothing of this process.

    *registry*: where the metrics are registered; one of their own if not given.
    """

    content_type: Final = CONTENT_TYPE_LATEST

    def __init__(self, pgq: PgQueue, *, registry: CollectorRegistry | None = None) -> None:
        self._pgq = pgq
        self.registry = CollectorRegistry() if registry is None else registry
        self._database = _Database()
        self._measuring = anyio.Lock()
        self.registry.register(self._database)

    async def render(self) -> bytes:
        """Measure, and return all metrics in the text format that `content_type` names."""
        await self.measure()
        return generate_latest(self.registry)

    @asynccontextmanager
    async def refreshing(self, *, every: float = 5.0) -> AsyncIterator[None]:
        """Measure *every* so many seconds inside the block.

        For a service that has a registry and an endpoint of its own: that collects whenever and in whatever
        thread it likes, and cannot await. Where `render` is called for each scrape, this is not needed.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._refresh, every)
            yield
            group.cancel_scope.cancel()

    async def _refresh(self, every: float) -> None:
        while True:
            await self.measure()
            await anyio.sleep(every)

    async def measure(self) -> None:
        """Ask the database, unless it was asked within the last second.

        Without an answer, nothing is said of queues and workers.
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
                    )
            except AWAY:
                self._database.take(None)
            except asyncpg.PostgresError as error:
                # Nobody's reason to end: a service refreshes beside its work.
                logger.warning("the queues cannot be measured: %s", error)
                self._database.take(None)
            else:
                self._database.take(snapshot)


class Metrics(DatabaseMetrics):
    """Counts what happens in this process from now on, and shows the database's queues and workers.

    *registry*: where the metrics are registered; one of their own if not given. Raises ConfigurationError
    if it has such metrics already.
    """

    def __init__(self, pgq: PgQueue, *, registry: CollectorRegistry | None = None) -> None:
        super().__init__(pgq, registry=count_events(pgq, registry))


class SupervisorMetrics(DatabaseMetrics):
    """Adds up what the processes of a supervisor report, and shows the database's queues and workers."""

    def __init__(self, pgq: PgQueue, reports: ProcessReports) -> None:
        super().__init__(pgq)
        self._reports = reports
        self.registry.register(reports)

    async def measure(self) -> None:
        """Ask the processes and the database."""
        await self._reports.ask()
        await super().measure()


class _Database(Collector):
    """The latest answer of the database. Collected from any thread."""

    def __init__(self) -> None:
        self._latest: tuple[float, Snapshot | None] | None = None
        self._cap = Cap()

    def take(self, snapshot: Snapshot | None) -> None:
        """Show *snapshot* from now on; None: the database did not answer."""
        # One assignment: a thread that collects meanwhile sees the one or the other.
        self._latest = time.monotonic(), snapshot

    @property
    def age(self) -> float:
        """Seconds since the latest answer."""
        return float("inf") if self._latest is None else time.monotonic() - self._latest[0]

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the families without their values."""
        return [_is_up(), *families(None, cap=self._cap)]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Return what there is to say."""
        latest, up = self._latest, _is_up()
        if latest is None or time.monotonic() - latest[0] > STALE:
            return [up, *families(None, cap=self._cap)]
        up.add_metric([], float(latest[1] is not None))
        return [up, *families(latest[1], cap=self._cap)]


def _is_up() -> GaugeMetricFamily:
    return GaugeMetricFamily("pgqueue_database_up", "Whether the database answered when it was last asked")
