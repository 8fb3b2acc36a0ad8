"""`python -m pgqueue.processes.child`: a child process of a worker, which runs one job after the other.

The main thread runs plain functions, where a signal can interrupt them. Another thread runs the event loop:
the socket to the worker, coroutines, and the database, which is opened for the first job.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from typing import Any, NoReturn

from pgqueue import forks
from pgqueue.app import PgQueue
from pgqueue.database.patience import persist
from pgqueue.errors import DatabaseUnavailableError, InvalidTaskError, WorkerLifespanError
from pgqueue.model.job_error import describe
from pgqueue.processes.memory import return_large_blocks
from pgqueue.worker.attempt import forked
from pgqueue.worker.attempt.attempt import Stop
from pgqueue.worker.attempt.soft_limit import groups_taught
from pgqueue.worker.isolation.importing import find_host, set_up_django
from pgqueue.worker.isolation.runner import AttemptRunner, MainThread
from pgqueue.worker.isolation.wire import MAX_LINE, pack, pack_outcome, unpack

CLEAN_UP_WITHIN = 1.5
"""Seconds that the part of a lifespan behind its `yield` has; the worker kills the process a little later."""


class ChildProcess:
    """This process, as its worker sees it."""

    def __init__(self, main_thread: MainThread, connection: socket.socket) -> None:
        self._main_thread = main_thread
        self._connection = connection
        self._main: dict[str, str] | None = None
        self._django: str | None = None
        self._runners: dict[int, AttemptRunner] = {}
        self._current: AttemptRunner | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Run jobs for the worker until it closes the socket."""
        forked.prepare(asyncio.get_running_loop())
        reader, self._writer = await asyncio.open_connection(sock=self._connection, limit=MAX_LINE)
        while line := await reader.readline():
            message = unpack(line)
            if "path" in message:
                sys.path[:] = message["path"]
                self._main = message["main"]
                self._django = message["django"]
            elif "stop" in message:
                if self._current is not None:
                    self._current.stop(Stop(message["stop"]))
            else:
                self._keep(asyncio.create_task(self._run_job(message["job"])))
        for runner in self._runners.values():
            with suppress(WorkerLifespanError):
                await runner.end(CLEAN_UP_WITHIN)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_job(self, job: dict[str, Any]) -> None:
        try:
            # In the main thread: a module may set signal handlers while it is imported.
            found = await self._main_thread.run(lambda: self._find(job))
            reply = await self._reply(job, found)
        except Exception as error:
            # For example, the schema is of another version. The attempt has failed.
            reply = _failure(error)
        self._current = None
        await self._send(reply)

    async def _reply(self, job: dict[str, Any], found: PgQueue | BaseException) -> dict[str, Any]:
        if isinstance(found, BaseException):
            return _failure(found)
        runner = await self._runner(found, job["dsn"])
        await runner.begin(job["worker"])
        self._current = runner
        outcome, is_kept = await self._current.run(job, self._started)
        return {"outcome": pack_outcome(outcome), "is_kept": is_kept}

    def _find(self, job: dict[str, Any]) -> PgQueue | BaseException:
        task = job["claimed"][5]
        try:
            set_up_django(self._django)
            host = find_host(job["found_in"], task, self._main)
        except BaseException as error:
            # A module may raise anything, even SystemExit.
            return error
        if not isinstance(host, PgQueue):
            return InvalidTaskError(f"task {task!r} was not found in {job['found_in']!r}")
        return host

    async def _runner(self, host: PgQueue, dsn: str) -> AttemptRunner:
        runner = self._runners.get(id(host))
        if runner is None:
            # The worker's, which may have been told another one than the module says.
            host.dsn = dsn
            # A database that is away, or refuses a login, is no error of the job's. The worker ends the wait.
            await persist(
                "opening the database in a child process", host.open, errors=(DatabaseUnavailableError,)
            )
            runner = self._runners[id(host)] = host.attempt_runner(self._main_thread)
            self._keep(asyncio.create_task(runner.serve()))
        return runner

    async def _started(self) -> None:
        await self._send({"started": True})

    async def _send(self, message: dict[str, Any]) -> None:
        self._writer.write(pack(message))
        await self._writer.drain()


def _failure(error: BaseException) -> dict[str, Any]:
    described = describe(error)
    return {"failure": [described.type, described.message, described.traceback]}


def end() -> NoReturn:
    """Kill this process and all that handlers started: the worker has ended, or closed the socket."""
    os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main() -> None:
    """Serve the worker over a socket. Its file descriptor is the first argument."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.set_inheritable(False)
    # What a handler forks neither holds the socket open when this process dies, nor ignores these signals.
    forks.close_in_children(connection)
    # A service manager may signal all processes of a service. The worker reacts, and stops its children.
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, forks.heed_not)
    return_large_blocks()
    main_thread = MainThread()

    async def serve() -> None:
        try:
            with groups_taught:
                await ChildProcess(main_thread, connection).run()
        finally:
            # Here, not after the loop: closing the loop would let handlers clean up, without their worker.
            end()

    threading.Thread(target=lambda: asyncio.run(serve()), name="pgqueue child", daemon=True).start()
    main_thread.serve()


if __name__ == "__main__":
    main()
