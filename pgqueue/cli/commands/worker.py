"""`pgqueue worker`: runs the tasks of an application until it is told to stop."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable
from functools import partial
from itertools import chain, count, repeat
from typing import Annotated

import anyio
import typer

from pgqueue import DatabaseUnavailableError, PgQueue, Worker
from pgqueue.cli.logging_setup import Level, LogFormat, set_up_logging
from pgqueue.cli.running.lifecycle import exit_now, leave, leave_if_stuck, restart, run, settle_collector
from pgqueue.cli.running.metrics_port import Exhibit, exhibit_of, exhibit_processes
from pgqueue.cli.running.sockets import listen
from pgqueue.cli.target import load
from pgqueue.database.outages import RECONNECT_PAUSES
from pgqueue.metrics.multiprocess import ProcessReports
from pgqueue.processes.supervisor import RECYCLE, Supervisor, on_signals, when_closed

logger = logging.getLogger("pgqueue.cli")

LOG_EVERY = 30
"""Of the tries to reach the database, at most one a second, every so many are logged after the first."""


def work(
    target: Annotated[str, typer.Argument(metavar="MODULE:PGQ", help="The PgQueue, e.g. app.jobs:pgq.")],
    concurrency: Annotated[int, typer.Option(min=1, help="Handlers that run at once, per process.")] = 10,
    queues: Annotated[
        str | None, typer.Option(help="Queues to work on, separated by commas. Default: all declared.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that running jobs have to finish after a signal.")
    ] = 30.0,
    lease_ttl: Annotated[
        float, typer.Option(min=1, help="Seconds after which a host that died is noticed.")
    ] = 15.0,
    prefetch_multiplier: Annotated[
        int, typer.Option(min=1, help="Jobs claimed, as a multiple of the concurrency; 1: none ahead.")
    ] = 1,
    uvloop: Annotated[
        bool | None, typer.Option("--uvloop/--no-uvloop", help="Default: if it is installed.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Serve /metrics, /livez and /readyz here, for all processes together. 0: a free port.",
        ),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="The address to serve them on; 0.0.0.0: every one of this machine.")
    ] = "127.0.0.1",
    report_to: Annotated[
        int | None, typer.Option(hidden=True, help="A socket to the supervisor, which asks for metrics.")
    ] = None,
    supervisor_pipe: Annotated[
        int | None, typer.Option(hidden=True, help="Closed at the other end when the supervisor is gone.")
    ] = None,
    log_level: Annotated[Level, typer.Option(help="How much to log.")] = Level.INFO,
    log_jobs: Annotated[
        bool, typer.Option("--log-jobs", help="Log the start and success of every job too.")
    ] = False,
    log_format: Annotated[
        LogFormat, typer.Option(help="auto: for eyes on a terminal, else JSON, one line a record.")
    ] = LogFormat.AUTO,
) -> None:
    """Run the jobs of MODULE:PGQ until SIGTERM or SIGINT.

    The first signal: claim nothing more, let running jobs finish within the grace, give the rest back, their
    attempts unspent. The second: give everything back now.

    A handler that blocks the process past its time limit has it restarted, its other jobs given back.

    Exit codes: 0 stopped by a signal, every job finished or given back; 1 an error; 2 wrong usage; 75 blocked
    by a handler (a process of --processes, which is replaced at once).
    """
    pgq = load(target)
    # After the import: a program that sets its logging up itself has done so by now.
    set_up_logging(log_level, every_job=log_jobs, form=log_format)
    listener = None if metrics_port is None else listen(metrics_host, metrics_port)
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
        leave(run(partial(_supervise, pgq, command, processes, listener), uvloop=False))
    make_worker = partial(
        pgq.worker,
        queues=names,
        concurrency=concurrency,
        prefetch_multiplier=prefetch_multiplier,
        lease_ttl=lease_ttl,
        grace=grace,
    )
    exhibit = exhibit_of(pgq, listener, report_to)
    leave(run(partial(_work, pgq, make_worker, supervisor_pipe, exhibit), uvloop=uvloop))


async def _work(
    pgq: PgQueue, make_worker: Callable[[], Worker], supervisor_pipe: int | None, exhibit: Exhibit
) -> int:
    """Run one worker in this process; return the exit code. It stops when its supervisor is gone."""
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
        async with exhibit():
            with opening:
                await open_when_up(pgq)
            if opening.cancelled_caught:
                return 0
            code = 0
            try:
                worker = make_worker()
                settle_collector()
                worker.recycle = partial(_recycle, was_signalled, is_supervised=supervisor_pipe is not None)
                worker.start()
                if opening.cancel_called:
                    worker.stop()
                try:
                    await worker.wait_stopped()
                except Exception:
                    # It has logged what it was.
                    logger.error("the worker ended by an error; exiting")
                    code = 1
            finally:
                await pgq.close()
        await leave_if_stuck(code)
        return code


def _recycle(was_signalled: Callable[[], bool], *, is_supervised: bool) -> None:
    """Replace this process, whose loop is blocked by a handler; its jobs are settled."""
    if was_signalled():
        exit_now(0)
    if is_supervised:
        exit_now(RECYCLE)
    logger.warning("restarting this process: a handler blocks it past its time limit")
    restart()


async def _supervise(pgq: PgQueue, command: list[str], processes: int, listener: socket.socket | None) -> int:
    """Run worker processes, and show them on *listener*; return the exit code."""
    # What is wrong with the schema is said once, here, and not by each process again and again.
    opening = anyio.CancelScope()
    with on_signals(opening.cancel, opening.cancel), opening:
        await open_when_up(pgq)
        if listener is None:
            await pgq.close()
    if opening.cancel_called:
        await pgq.close()
        return 0
    if listener is None:
        return 0 if await Supervisor(command, processes).run() else 1
    reports = ProcessReports()
    try:
        async with exhibit_processes(pgq, listener, reports, processes):
            return 0 if await Supervisor(command, processes, attach=reports.attach).run() else 1
    finally:
        await pgq.close()


async def open_when_up(pgq: PgQueue) -> None:
    """Open *pgq*, waiting for its database as long as it takes. Raises SchemaError."""
    pauses = chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1]))
    for tries in count():
        try:
            await pgq.open()
        except DatabaseUnavailableError as error:
            if tries % LOG_EVERY == 0:
                logger.warning("waiting for the database, trying again every second: %s", error)
            await anyio.sleep(next(pauses))
        else:
            if tries:
                logger.info("the database is there after %d tries", tries + 1)
            return
