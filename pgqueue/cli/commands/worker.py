"""`pgqueue worker`: runs the jobs of an application until it is stopped by a signal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial
from itertools import chain, count, repeat
from typing import Annotated

import anyio
import typer

from pgqueue import DatabaseUnavailableError, PgQueue, Worker
from pgqueue.cli.logging_setup import Level, LogFormat, set_up_logging
from pgqueue.cli.running.lifecycle import (
    exit_now,
    leave,
    leave_if_stuck,
    restart,
    run,
    run_with_handlers,
    tune_collector,
)
from pgqueue.cli.running.metrics_port import MetricsPort, PublishMetrics, publish_process, publish_processes
from pgqueue.cli.running.sockets import is_loopback, listen
from pgqueue.cli.target import load
from pgqueue.database.outages import RECONNECT_PAUSES
from pgqueue.metrics.multiprocess import ProcessReports
from pgqueue.model.token import check_token
from pgqueue.processes.memory import return_large_blocks
from pgqueue.processes.supervisor import RECYCLE, Supervisor, on_signals, when_closed

logger = logging.getLogger("pgqueue.cli")

LOG_EVERY = 30
"""Attempts to reach the database between two log records. There is at most one attempt per second."""


def work(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:PGQ", help="The PgQueue object, e.g. app.jobs:pgq.")
    ],
    concurrency: Annotated[int, typer.Option(min=1, help="Maximum number of running jobs per process.")] = 10,
    queues: Annotated[
        str | None, typer.Option(help="Queues to work on, separated by commas (default: all declared).")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 1,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds for running jobs to finish after the first signal.")
    ] = 30.0,
    lease_ttl: Annotated[
        float,
        typer.Option(min=1, help="Lease duration: a dead host's jobs are rescued after this many seconds."),
    ] = 15.0,
    prefetch_multiplier: Annotated[
        int, typer.Option(min=1, help="Claim up to this multiple of the concurrency; 1 prefetches none.")
    ] = 1,
    uvloop: Annotated[
        bool | None,
        typer.Option("--uvloop/--no-uvloop", help="Use uvloop (default: if it is installed)."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Serve /metrics, /livez and /readyz on this port, for all processes together; 0 selects a "
            "free port.",
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address for --metrics-port; 0.0.0.0 listens on all interfaces.")
    ] = "127.0.0.1",
    metrics_token: Annotated[
        str | None,
        typer.Option(
            envvar="PGQUEUE_METRICS_TOKEN",
            help="Token that a request for /metrics must carry, at least 16 characters. Other users of this "
            "machine can see command lines: set PGQUEUE_METRICS_TOKEN instead.",
            show_envvar=True,
        ),
    ] = None,
    metrics_open: Annotated[
        bool, typer.Option("--metrics-open", help="Let everyone who can reach --metrics-host read /metrics.")
    ] = False,
    report_to: Annotated[
        int | None, typer.Option(hidden=True, help="Socket to the supervisor, which asks for metrics.")
    ] = None,
    supervisor_pipe: Annotated[
        int | None, typer.Option(hidden=True, help="Pipe that is closed when the supervisor ends.")
    ] = None,
    log_level: Annotated[Level, typer.Option(help="Lowest level to log.")] = Level.INFO,
    log_jobs: Annotated[
        bool, typer.Option("--log-jobs", help="Also log the start and success of every job.")
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(help="auto: readable text on a terminal, otherwise JSON, one record per line."),
    ] = LogFormat.AUTO,
) -> None:
    """Run the jobs of MODULE:PGQ until SIGTERM or SIGINT.

    First signal: stop claiming, let jobs finish within --grace, then return the rest to the queue without
    counting the attempt. Second signal: return all jobs to the queue now.

    If a handler blocks the process past its time limit, the process is restarted. Its other jobs return to
    the queue.

    Exit codes: 0 stopped by a signal, and every job finished or returned to the queue; 1 an error; 2 wrong
    usage; 75 blocked by a handler (only processes of --processes, which are replaced at once).
    """
    pgq = load(target)
    # After the import: if the program configures logging itself, it has done so by now.
    set_up_logging(log_level, every_job=log_jobs, form=log_format)
    port = _metrics_port(metrics_host, metrics_port, metrics_token, is_open=metrics_open)
    names = None if queues is None else [name.strip() for name in queues.split(",") if name.strip()]
    if processes > 1:
        command = [sys.executable, "-m", "pgqueue", "worker", target, f"--concurrency={concurrency}"]
        command += [] if queues is None else [f"--queues={queues}"]
        command += [] if uvloop is None else ["--uvloop" if uvloop else "--no-uvloop"]
        command += ["--log-jobs"] if log_jobs else []
        command += [
            f"--grace={grace}",
            f"--lease-ttl={lease_ttl}",
            f"--prefetch-multiplier={prefetch_multiplier}",
            f"--log-level={log_level}",
            f"--log-format={log_format}",
            "--processes=1",
        ]
        leave(run(partial(_supervise, pgq, command, processes, port), uvloop=False))
    make_worker = partial(
        pgq.worker,
        queues=names,
        concurrency=concurrency,
        prefetch_multiplier=prefetch_multiplier,
        lease_ttl=lease_ttl,
        grace=grace,
    )
    publish = publish_process(pgq, port, report_to)
    leave(run_with_handlers(partial(_work, pgq, make_worker, supervisor_pipe, publish), uvloop=uvloop))


def _metrics_port(host: str, number: int | None, token: str | None, *, is_open: bool) -> MetricsPort | None:
    """Return the port for metrics, which listens from now on, or None.

    Raises typer.BadParameter for one that strangers could read, ConfigurationError.
    """
    if number is None:
        return None
    if token is not None:
        check_token(token)
    elif not is_open and not is_loopback(host):
        raise typer.BadParameter(
            f"without a token, anyone who can reach {host} could read the metrics: set "
            "PGQUEUE_METRICS_TOKEN, or pass --metrics-open",
            param_hint="--metrics-host",
        )
    return MetricsPort(listen(host, number), token, is_open)


async def _work(
    pgq: PgQueue, make_worker: Callable[[], Worker], supervisor_pipe: int | None, publish: PublishMetrics
) -> int:
    """Run one worker in this process; return the exit code. It stops if its supervisor ends."""
    opening = anyio.CancelScope()
    worker: Worker | None = None

    def stop() -> None:
        opening.cancel()
        if worker is not None:
            worker.stop()

    def release() -> None:
        if worker is not None:
            worker.release()

    with on_signals(stop, release) as was_signalled, when_closed(supervisor_pipe, stop):
        async with publish():
            with opening:
                await open_when_up(pgq)
            if opening.cancelled_caught:
                return 0
            code = 0
            try:
                worker = make_worker()
                tune_collector()
                return_large_blocks()
                worker.recycle = partial(_recycle, was_signalled, is_supervised=supervisor_pipe is not None)
                worker.start()
                if opening.cancel_called:
                    worker.stop()
                try:
                    await worker.wait_stopped()
                except Exception:
                    # The worker has logged the error.
                    logger.error("the worker stopped because of an error; exiting")
                    code = 1
            finally:
                await pgq.close()
        await leave_if_stuck(code)
        return code


def _recycle(was_signalled: Callable[[], bool], *, is_supervised: bool) -> None:
    """Replace this process, whose event loop a handler blocks; none of its jobs is running any more."""
    if was_signalled():
        exit_now(0)
    if is_supervised:
        exit_now(RECYCLE)
    logger.warning("restarting this process: a handler blocked it past its time limit")
    restart()


async def _supervise(pgq: PgQueue, command: list[str], processes: int, port: MetricsPort | None) -> int:
    """Run worker processes, and publish their metrics on *port*; return the exit code."""
    # Opened here first, so that an error of the schema is reported once, and not by each process repeatedly.
    opening = anyio.CancelScope()
    with on_signals(opening.cancel, opening.cancel), opening:
        await open_when_up(pgq)
        if port is None:
            await pgq.close()
    if opening.cancel_called:
        await pgq.close()
        return 0
    if port is None:
        return 0 if await Supervisor(command, processes).run() else 1
    reports = ProcessReports()
    try:
        async with publish_processes(pgq, port, reports, processes):
            return 0 if await Supervisor(command, processes, attach=reports.attach).run() else 1
    finally:
        await pgq.close()


async def open_when_up(pgq: PgQueue) -> None:
    """Open *pgq*, waiting for its database without a limit. Raises SchemaError."""
    pauses = chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1]))
    for failures in count():
        try:
            await pgq.open()
        except DatabaseUnavailableError as error:
            if failures % LOG_EVERY == 0:
                logger.warning("waiting for the database; trying again every second: %s", error)
            await anyio.sleep(next(pauses))
        else:
            if failures:
                logger.info("connected to the database after %d attempts", failures + 1)
            return
