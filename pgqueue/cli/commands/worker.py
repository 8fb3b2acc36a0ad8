"""`pgqueue worker`: runs the jobs of an application until it is stopped by a signal."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from pgqueue import PgQueue
from pgqueue.cli import settings
from pgqueue.cli.logging_setup import Level, LogFormat, set_up_logging
from pgqueue.cli.parameters import App, Dsn, Include, Schema, Target, find_pgqueue, one_target
from pgqueue.cli.queue_options import read_queues, read_weights
from pgqueue.cli.running.lifecycle import leave, run, run_with_handlers
from pgqueue.cli.running.limits import ProcessLimits
from pgqueue.cli.running.metrics_port import MetricsPort, publish_process, publish_processes
from pgqueue.cli.running.reloading import check_watching, run_reloading
from pgqueue.cli.running.sockets import is_loopback, listen
from pgqueue.cli.running.worker_process import Place, advise, open_when_up
from pgqueue.cli.running.worker_process import work as work_here
from pgqueue.cli.settings import project
from pgqueue.errors import ConfigurationError
from pgqueue.metrics.multiprocess import ProcessReports
from pgqueue.model.token import check_token
from pgqueue.processes.supervisor import Supervisor, on_signals
from pgqueue.worker.settings import WorkerSettings
from pgqueue.worker.settings import read_queues as resolve_queues


def work(
    target: Target = None,
    app: App = None,
    dsn: Dsn = None,
    schema: Schema = "pgqueue",
    include: Include = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            envvar="PGQUEUE_CONCURRENCY",
            min=1,
            help="Maximum number of running jobs per process (default: 10, or the sum of --queues' slots).",
        ),
    ] = None,
    queues: Annotated[
        str | None,
        typer.Option(
            envvar="PGQUEUE_QUEUES",
            help="Queues to work on, separated by commas (default: all declared). mail:20,reports:2 gives "
            "each slots of its own: at most so many of its jobs run at once per process.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            envvar="PGQUEUE_WEIGHTS",
            help="How many jobs of each queue start for one of another, where all have a backlog: "
            "mail:3,reports:1.",
        ),
    ] = None,
    processes: Annotated[
        int, typer.Option(envvar="PGQUEUE_PROCESSES", min=1, help="Number of worker processes.")
    ] = 1,
    grace: Annotated[
        float,
        typer.Option(
            envvar="PGQUEUE_GRACE", min=0, help="Seconds for running jobs to finish after the first signal."
        ),
    ] = 30.0,
    lease_ttl: Annotated[
        float,
        typer.Option(
            envvar="PGQUEUE_LEASE_TTL",
            min=1,
            help="Lease duration: a dead host's jobs are rescued after this many seconds.",
        ),
    ] = 15.0,
    prefetch_multiplier: Annotated[
        int,
        typer.Option(
            envvar="PGQUEUE_PREFETCH_MULTIPLIER",
            min=1,
            help="Claim up to this multiple of the concurrency; 1 prefetches none.",
        ),
    ] = 1,
    burst: Annotated[
        bool, typer.Option("--burst", help="Stop when nothing is left that could run now.")
    ] = False,
    max_jobs: Annotated[
        int | None,
        typer.Option(
            envvar="PGQUEUE_MAX_JOBS",
            min=1,
            help="Replace a process after it has ended so many attempts; what it still runs, it finishes.",
        ),
    ] = None,
    max_rss: Annotated[
        int | None,
        typer.Option(
            envvar="PGQUEUE_MAX_RSS",
            min=1,
            help="Replace a process that has so many MiB of memory; what it still runs, it finishes.",
        ),
    ] = None,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload", help="Restart whenever a Python file of the project changes: for development."
        ),
    ] = False,
    uvloop: Annotated[
        bool | None,
        typer.Option(
            "--uvloop/--no-uvloop", envvar="PGQUEUE_UVLOOP", help="Use uvloop (default: if it is installed)."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            envvar="PGQUEUE_METRICS_PORT",
            min=0,
            max=65535,
            help="Serve /metrics, /livez and /readyz on this port, for all processes together; 0 selects a "
            "free port.",
        ),
    ] = None,
    metrics_host: Annotated[
        str,
        typer.Option(
            envvar="PGQUEUE_METRICS_HOST",
            help="Address for --metrics-port; 0.0.0.0 listens on all interfaces.",
        ),
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
    retire_pipe: Annotated[
        int | None, typer.Option(hidden=True, help="Pipe that is written to when this process retires.")
    ] = None,
    of_several: Annotated[
        bool, typer.Option("--of-several", hidden=True, help="A process of --processes.")
    ] = False,
    log_level: Annotated[
        Level, typer.Option(envvar="PGQUEUE_LOG_LEVEL", help="Lowest level to log.")
    ] = Level.INFO,
    log_jobs: Annotated[
        bool,
        typer.Option(
            "--log-jobs", envvar="PGQUEUE_LOG_JOBS", help="Also log the start and success of every job."
        ),
    ] = False,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            envvar="PGQUEUE_LOG_FORMAT",
            help="auto: readable text on a terminal, otherwise JSON, one record per line.",
        ),
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
    target = one_target(target, app)
    if reload:
        _check_reload(processes, is_burst=burst, is_limited=max_jobs is not None or max_rss is not None)
        set_up_logging(log_level, every_job=log_jobs, form=log_format)
        command = [sys.executable, "-m", "pgqueue", "worker", *_without_reload(sys.argv[2:])]
        leave(0 if run(partial(run_reloading, command, _folder()), uvloop=False) else 1)
    if target is None:
        raise typer.BadParameter(
            "no PgQueue given: pass MODULE:PGQ or --app, or set PGQUEUE_APP, or app of [tool.pgqueue] in "
            "pyproject.toml"
        )
    pgq = find_pgqueue(target, dsn, schema, include=include or (), dsn_is_told=of_several)
    # After the import: if the program configures logging itself, it has done so by now.
    set_up_logging(log_level, every_job=log_jobs, form=log_format)
    served, declared = read_queues(queues, pgq.registry.queues), pgq.registry.queues
    shares = read_weights(weights, declared)
    _check_settings(served, declared, concurrency, shares, prefetch_multiplier)
    limits = ProcessLimits(max_jobs, max_rss)
    port = None
    if not of_several:
        port = _metrics_port(metrics_host, metrics_port, metrics_token, is_open=metrics_open)
    if (processes > 1 or limits.are_set) and not of_several:
        given: dict[str, Any] = {
            "concurrency": concurrency,
            "queues": queues,
            "weights": weights,
            "max-jobs": max_jobs,
            "max-rss": max_rss,
            "grace": grace,
            "lease-ttl": lease_ttl,
            "prefetch-multiplier": prefetch_multiplier,
            "log-level": log_level,
            "log-format": log_format,
            "processes": 1,
        }
        command = [sys.executable, "-m", "pgqueue", "worker", target, "--of-several"]
        command += [f"--{name}={value}" for name, value in given.items() if value is not None]
        command += [f"--include={name}" for name in include or ()]
        command += [] if uvloop is None else ["--uvloop" if uvloop else "--no-uvloop"]
        command += ["--log-jobs"] if log_jobs else []
        command += ["--burst"] if burst else []
        # Not on their command lines, which other users of the machine can see.
        os.environ["PGQUEUE_DSN"] = pgq.dsn or ""
        leave(run(partial(_supervise, pgq, command, processes, port, served, until_done=burst), uvloop=False))
    make_worker = partial(
        pgq.worker,
        queues=served,
        concurrency=concurrency,
        weights=shares,
        prefetch_multiplier=prefetch_multiplier,
        lease_ttl=lease_ttl,
        grace=grace,
    )
    if retire_pipe is not None:
        # Programs that handlers start must not hold it open.
        os.set_inheritable(retire_pipe, False)
    place = Place(supervisor_pipe, retire_pipe, limits, is_burst=burst, queues=served, advises=not of_several)
    publish = publish_process(pgq, port, report_to)
    leave(run_with_handlers(partial(work_here, pgq, make_worker, place, publish), uvloop=uvloop))


def _check_settings(
    queues: Mapping[str, int | None] | list[str] | None,
    declared: Collection[str],
    concurrency: int | None,
    weights: Mapping[str, int] | None,
    prefetch_multiplier: int,
) -> None:
    """Raise typer.BadParameter for settings that contradict each other: before the database is there."""
    try:
        names, slots, total = resolve_queues(queues, declared, concurrency)
        WorkerSettings(
            queues=names,
            concurrency=total,
            queue_slots=slots,
            weights=weights or {},
            prefetch=(prefetch_multiplier - 1) * total,
        )
    except ConfigurationError as error:
        given = settings.given()
        told = ("queues", "concurrency", "weights", "prefetch_multiplier")
        where = [given.where(name) for name in told if given.sources.get(name) not in (None, "DEFAULT")]
        raise typer.BadParameter(f"{error} (as set by {', '.join(where) or 'the default'})") from error


def _check_reload(processes: int, *, is_burst: bool, is_limited: bool) -> None:
    """Raise typer.BadParameter for options that contradict --reload, ConfigurationError."""
    for name, is_set in (
        ("--processes", processes > 1),
        ("--burst", is_burst),
        ("--max-jobs or --max-rss", is_limited),
    ):
        if is_set:
            raise typer.BadParameter(f"--reload cannot be used with {name}: leave one of them out")
    check_watching()


def _without_reload(arguments: Sequence[str]) -> list[str]:
    return [each for each in arguments if each != "--reload"]


def _folder() -> Path:
    """Return the folder whose files are watched: the project's, if this is one."""
    return project().folder or Path.cwd()


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


async def _supervise(
    pgq: PgQueue,
    command: list[str],
    processes: int,
    port: MetricsPort | None,
    queues: Any,
    *,
    until_done: bool,
) -> int:
    """Run worker processes, and publish their metrics on *port*; return the exit code."""
    # Opened here first, so that an error of the schema is reported once, and not by each process repeatedly.
    opening = anyio.CancelScope()
    with on_signals(opening.cancel, opening.cancel), opening:
        await open_when_up(pgq)
        await advise(pgq, queues)
        if port is None:
            await pgq.close()
    if opening.cancel_called:
        await pgq.close()
        return 0
    supervisor = partial(Supervisor, command, processes, until_done=until_done)
    if port is None:
        return 0 if await supervisor().run() else 1
    reports = ProcessReports()
    try:
        async with publish_processes(pgq, port, reports, processes):
            return 0 if await supervisor(attach=reports.attach).run() else 1
    finally:
        await pgq.close()
