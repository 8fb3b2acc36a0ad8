"""What tests see of pgqueue that its users do not: no other module under tests/ reaches past an underscore.

Most tests do not need it: those that do wait for something that is not announced, or make a fault.
"""

from __future__ import annotations

import itertools
import socket
from typing import TYPE_CHECKING

from pgqueue.database.connection import OwnConnection
from pgqueue.database.sql import ROOT
from pgqueue.schedules.ticker import Ticker
from pgqueue.workflows.compile import compile_canvas, compile_parts
from pgqueue.workflows.reading import WorkflowReader

# For types alone: programs that tests start import this module, too.
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from contextlib import AbstractAsyncContextManager
    from typing import Any
    from uuid import UUID

    import asyncpg
    import httpx
    import pytest

    from pgqueue import PgQueue, Worker
    from pgqueue.background.notifications import Signals
    from pgqueue.background.reading import Reads
    from pgqueue.background.stats import StatsWriter
    from pgqueue.background.watching import Watches
    from pgqueue.database.connection import Connection
    from pgqueue.database.pool import Database
    from pgqueue.events.observers import Observers
    from pgqueue.options.run_time import Settings
    from pgqueue.store import Graph, Store
    from pgqueue.tasks.arguments import Arguments
    from pgqueue.tasks.canvas import Canvas
    from pgqueue.tasks.round_trip import Form
    from pgqueue.upkeep.retention import Purging
    from pgqueue.web.pages.login import Gate
    from pgqueue.worker.claim.claimer import Claimer
    from pgqueue.worker.lease.loop_watchdog import Watchdog
    from pgqueue.worker.slots import Slots

# A PgQueue


def store(pgq: PgQueue) -> Store:
    """Return the statements of *pgq*."""
    return pgq._store


def database(pgq: PgQueue) -> Database:
    """Return the database as *pgq* sees it."""
    return pgq._database


async def write_declared(pgq: PgQueue) -> None:
    """Have *pgq* write the schedules that its code declares, as a worker does."""
    await pgq.write_schedules()


def forget_declared(pgq: PgQueue) -> None:
    """Have *pgq* forget which of its schedules it has written, as a process that starts."""
    pgq._declared_schedules.forget()


def ticker_of(pgq: PgQueue) -> Ticker:
    """Return what makes the jobs of due schedules, as a worker of *pgq* has it."""
    return Ticker(pgq._store, pgq._writer, pgq._codec)


def has_pool(pgq: PgQueue) -> bool:
    """Return whether *pgq* is open and has not begun to close."""
    return pgq._database._pool is not None


def cut_sockets(pgq: PgQueue) -> None:
    """Shut the sockets of the connections that *pgq* has for its callers; they notice when they use them."""
    kept = pgq._database._kept._link._connection
    pool = pgq._database._pool
    assert pool is not None
    connections = [holder._con for holder in pool._holders]  # type: ignore[attr-defined]
    for connection in [*connections, kept]:
        if connection is not None and not connection.is_closed():
            connection._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def note_asked_types(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list of what pgqueue's connections ask their servers about types, from now on."""
    asked: list[object] = []
    ask: Any = OwnConnection._introspect_types  # type: ignore[attr-defined]  # the stubs leave it out

    async def note(connection: OwnConnection, oids: object, limit: float | None) -> object:
        asked.append(oids)
        return await ask(connection, oids, limit)

    monkeypatch.setattr(OwnConnection, "_introspect_types", note)
    return asked


def signals(pgq: PgQueue) -> Signals:
    """Return the process's ear and voice."""
    return pgq._signals


def listener(pgq: PgQueue) -> asyncpg.Connection[asyncpg.Record] | None:
    """Return the connection that listens, if there is one."""
    return pgq._signals._link._connection


def watches(pgq: PgQueue) -> Watches:
    """Return what watches jobs for those who await them."""
    return pgq._watches


def reads(pgq: PgQueue) -> Reads:
    """Return what reads jobs for those who ask for them."""
    return pgq._reads


def has_background(pgq: PgQueue) -> bool:
    """Return whether the loops beside the callers go on."""
    return pgq._host is not None and not pgq._host.done()


def cancel_background(pgq: PgQueue) -> None:
    """Cancel the loops, as code does that cancels every asyncio task of a process."""
    assert pgq._host is not None
    pgq._host.cancel()


def observers(pgq: PgQueue) -> Observers:
    """Return whom events of *pgq* are told to."""
    return pgq._observers


def stats(pgq: PgQueue) -> StatsWriter:
    """Return what writes the statistics of *pgq*."""
    return pgq._stats


def end_grace(pgq: PgQueue) -> None:
    """Have the workers of *pgq* fail what nobody can run, or decode, as soon as they have tried twice."""
    pgq._unknown_task_grace = 0.001


def is_exact(arguments: Arguments) -> bool:
    """Return whether what is called with them comes back as it went in, whatever it is."""
    return arguments._is_exact


def form(arguments: Arguments) -> Form:
    """Return what compares the values that *arguments* are not sure of."""
    return arguments._form


def statement(of: Store, name: str) -> str:
    """Return the SQL of the statement called *name*."""
    return of._sql[name]


def break_statements(of: Store, *folders: str, but: Collection[str] = ()) -> dict[str, str]:
    """Break all statements of these folders of `sql/`, but some; return them as they were, by name."""
    names = {
        file.name.removesuffix(".sql") for folder in folders for file in (ROOT / folder).iterdir()
    }.difference(but)
    whole = {name: of._sql[name] for name in names}
    of._sql = {**of._sql, **{name: f"-- {name}: broken\n\nselect from where" for name in names}}
    return whole


def mend_statements(of: Store, whole: dict[str, str]) -> None:
    """Have statements be again as they were."""
    of._sql = {**of._sql, **whole}


# A worker


def lease_of(worker: Worker) -> UUID | None:
    """Return the lease that *worker* holds."""
    return worker._state.lease_id


def foreign_lanes(worker: Worker) -> int:
    """Return how many lanes *worker* remembers as those of others."""
    return len(worker._claimer._unknown)


def claimer_of(worker: Worker) -> Claimer:
    """Return what claims for *worker*."""
    return worker._claimer


def is_sure(worker: Worker) -> bool:
    """Return whether no connection was opened since *worker*'s claimer last looked for forgotten claims."""
    return not worker._claimer._returns.is_unsure


def connect_between_claims(pgq: PgQueue, worker: Worker) -> None:
    """Count a connection of *pgq* as opened each third time that *worker*'s claimer takes its own."""
    claimer, uses = worker._claimer, itertools.count()
    use = claimer._link.use

    def count() -> AbstractAsyncContextManager[asyncpg.Connection[asyncpg.Record]]:
        pgq._database.connects += next(uses) % 3 == 0
        return use()

    claimer._link.use = count  # type: ignore[assignment, method-assign]


def sleeps(worker: Worker, *, for_more_than: float = 1000.0) -> bool:
    """Return whether *worker* has found its lanes empty, and looks again only when told, or so much later."""
    claimer = worker._claimer
    return not claimer.book.has_active and claimer._sweep_in() > for_more_than


def forget_limits(pgq: PgQueue) -> None:
    """Have *pgq* declare its limits anew, as another deployment does."""
    pgq._writer._declared.clear()


def chores_of(worker: Worker) -> set[str]:
    """Return what *worker* calls its chores."""
    return {chore.name for each in (worker._rounds, worker._retention) for chore in each._chores}


def slots_of(worker: Worker) -> Slots:
    """Return the slots in which *worker* runs its attempts."""
    return worker._slots


def let_time_pass(worker: Worker, seconds: float) -> None:
    """Have the running attempts of *worker* be so much nearer to their limits, as its next scan finds."""
    for attempt in worker._slots.attempts:
        attempt.started -= seconds


def run_time_of(worker: Worker) -> Settings | None:
    """Return what *worker* has read of pauses and run-time options."""
    return worker._state.settings


def break_worker(worker: Worker, error: Exception) -> None:
    """Have *worker* stop, and *error* raised in the middle of that."""

    async def fail() -> None:
        raise error

    worker._wind_down = fail  # type: ignore[method-assign]
    worker.stop()


def cancel_worker(worker: Worker) -> None:
    """Cancel the asyncio task of *worker*, as a program that cancels all tasks does."""
    assert worker._running is not None
    worker._running.cancel()


def fail_loop_once(worker: Worker, doing: str, error: Exception) -> None:
    """Have a loop of *worker* raise *error* when it is first run."""
    make = worker._loops

    def make_failing(watchdog: Watchdog) -> dict[str, Callable[[], Awaitable[object]]]:
        loops = make(watchdog)
        run, failures = loops[doing], [error]

        async def fail_once() -> object:
            if failures:
                raise failures.pop()
            return await run()

        return {**loops, doing: fail_once}

    worker._loops = make_failing  # type: ignore[method-assign]


def is_watched(worker: Worker, at: float) -> bool:
    """Return whether *worker* knows that somebody awaits results at the monotonic time *at*."""
    return worker._announcer.awaited_until > at


async def purge_once(purging: Purging) -> None:
    """Have one pass of the retention made."""
    await purging._pass()


# The login page


def add_waiting(gate: Gate, number: int) -> None:
    """Count wrong tokens in, or out, as if they waited for their turn."""
    gate._waiting += number


# Libraries


def address_of(connection: asyncpg.Connection[asyncpg.Record]) -> Any:
    """Return the address that asyncpg reached the server at: a host and port, or a path."""
    return connection._addr  # type: ignore[attr-defined]  # the stubs leave it out


def cancellations_of(connection: asyncpg.Connection[asyncpg.Record]) -> set[object]:
    """Return the asyncio tasks that cancel statements of *connection*, or have done so."""
    return connection._cancellations  # type: ignore[attr-defined, no-any-return]  # as above


def lent_connection(connection: Connection) -> asyncpg.Connection[asyncpg.Record]:
    """Return the connection behind the proxy that a pool has lent."""
    return connection._con  # type: ignore[union-attr, no-any-return]  # the stubs leave it out


def transport_of(client: httpx.AsyncClient) -> httpx.AsyncBaseTransport:
    """Return what *client* sends its requests by."""
    return client._transport


def compiled(pgq: PgQueue, canvas: Canvas[Any]) -> Graph:
    """Return the rows that *pgq* would write for a canvas."""
    return compile_canvas(canvas, WorkflowReader(pgq._reader, pgq))


def compiled_in_parts(pgq: PgQueue, canvas: Canvas[Any], size: int) -> list[Graph]:
    """Return the rows that *pgq* would write for a canvas, in parts of *size* nodes."""
    return list(compile_parts(canvas, WorkflowReader(pgq._reader, pgq), size))
