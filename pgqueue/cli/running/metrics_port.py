"""Serves the metrics and health of `pgqueue worker` over HTTP, for one process or a supervisor's many."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from pgqueue import PgQueue
from pgqueue.metrics import DatabaseMetrics, Metrics, SupervisorMetrics, count_events
from pgqueue.metrics.multiprocess import ProcessReports, reporting

if TYPE_CHECKING:
    from pgqueue.web.api.health import FindProblems

# The status app is imported only where it is served. A worker without a metrics port would otherwise spend
# half as much time again on imports.
logger = logging.getLogger("pgqueue.cli")

PublishMetrics: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class MetricsPort:
    """Where metrics are served, and who may read them."""

    listener: socket.socket
    token: str | None = None
    """What a request for the metrics must carry. None: nothing, if it comes from this machine."""
    is_open: bool = False
    """Whether every request that the network lets through may read them."""


def publish_process(pgq: PgQueue, port: MetricsPort | None, report_to: int | None) -> PublishMetrics:
    """Return how this process publishes its metrics: on *port*, to its supervisor, or not at all."""
    if report_to is not None:
        return partial(_report, pgq, report_to)
    if port is not None:
        return partial(_serve, pgq, port)
    return nullcontext


@asynccontextmanager
async def _report(pgq: PgQueue, descriptor: int) -> AsyncIterator[None]:
    from pgqueue.web.api.health import process_problems

    with reporting(descriptor, count_events(pgq), partial(process_problems, pgq)):
        yield


@asynccontextmanager
async def _serve(pgq: PgQueue, port: MetricsPort) -> AsyncIterator[None]:
    from pgqueue.web.api.health import find_problems

    async with _serving(port, Metrics(pgq), partial(find_problems, pgq)):
        yield


@asynccontextmanager
async def publish_processes(
    pgq: PgQueue, port: MetricsPort, reports: ProcessReports, processes: int
) -> AsyncIterator[None]:
    """Publish the metrics of all processes of this supervisor on one port inside the block.

    *pgq* must be open.
    """
    from pgqueue.web.api.health import check_problems

    async def find() -> list[str]:
        await reports.ask()
        return [*reports.problems(processes), *await check_problems(pgq)]

    async with _serving(port, SupervisorMetrics(pgq, reports), find):
        yield


@asynccontextmanager
async def _serving(port: MetricsPort, metrics: DatabaseMetrics, find: FindProblems) -> AsyncIterator[None]:
    from pgqueue.cli.running.http_server import serving
    from pgqueue.web.monitoring_app import monitoring_app

    app = monitoring_app(metrics, find, token=port.token, open_reading=port.is_open)
    async with serving(app, port.listener) as address:
        logger.info("metrics: %s/metrics", address)
        yield
