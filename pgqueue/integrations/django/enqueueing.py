"""Enqueues Django's tasks on Django's connection, by the same code as all that a PgQueue enqueues.

So options, limits, ordered groups, idempotency keys and middleware are heeded as everywhere. The PgQueue is
not opened for it: what must not be part of the caller's transaction, a queue that is new or the declaration
of a limit, is written on a connection that is opened for it alone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import UUID

from django.db import transaction

from pgqueue import PgQueue
from pgqueue.blocking.lending import Hand, LentConnection
from pgqueue.blocking.turns import call_here
from pgqueue.database.migrations import Rights
from pgqueue.database.pool import Database
from pgqueue.database.sql import load_statements
from pgqueue.enqueueing.calls import Intake
from pgqueue.enqueueing.lanes import KEPT, Lanes, Names
from pgqueue.enqueueing.submitting import SubmittingWriter
from pgqueue.enqueueing.writer import Writer
from pgqueue.errors import DatabaseUnavailableError, SchemaError
from pgqueue.integrations.django.settings import BackendSettings, checked_connection, dsn_of
from pgqueue.integrations.django.statements import missing_schema, schema_errors
from pgqueue.integrations.django_connections import DjangoHere
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.middleware import around_enqueue

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection
    from pgqueue.flow.backpressure import Depth
    from pgqueue.tasks.signature import Signature

T = TypeVar("T")


class Written(NamedTuple):
    """What was enqueued."""

    job_id: UUID
    at: datetime
    created: bool
    """False: the job with this id existed already."""


class _Beside(Database):
    """The database of Django's connection, beside the transaction of that: one connection for each use."""

    def __init__(self, alias: str, schema: str) -> None:
        super().__init__(
            dsn_of(alias),
            schema=schema,
            max_connections=1,
            connect_timeout=None,
            force_generic_plans=False,
            connect_options={},
        )
        self._alias = alias

    async def repeat(
        self,
        step: Callable[[Connection], Awaitable[T]],
        *,
        is_asked: bool = True,  # noqa: ARG002  # nothing is tried again
    ) -> T:
        """Call *step* with a connection. Raises DatabaseUnavailableError."""
        connection = await self.connect_plain()
        try:
            with self.translated():
                return await step(connection)
        except SchemaError as error:
            raise missing_schema(self._alias, self.schema) from error
        finally:
            await connection.close()


class _LanesHere(Lanes):
    """Lanes that no timer forgets: the event loop of a call does not outlive it."""

    def __init__(self, database: Database, store: Any) -> None:
        super().__init__(database, store)
        self._learned_at = time.monotonic()

    def expire(self) -> None:
        """Ask for lanes anew if it is time."""
        if time.monotonic() - self._learned_at > KEPT:
            self.known.clear()
            self._learned_at = time.monotonic()

    async def learn_beside(self, connection: Connection, names: Names) -> Mapping[tuple[str, int], int]:
        """Return the ids of *names*; in the caller's transaction if there is no other connection."""
        try:
            return await super().learn_beside(connection, names)
        except DatabaseUnavailableError:
            return await self._store.learn_lanes(connection, names)

    def _note(self, learned: Mapping[tuple[str, int], int]) -> None:
        self.known.update(learned)


class _WriterHere(Writer):
    """Writes in Django's transaction, in whatever thread that is."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.lanes: _LanesHere = _LanesHere(self._database, self._store)
        self._known = self.lanes.known

    async def _count_depth(self, queue: str, known: Depth, count: int, limit: int) -> None:  # noqa: ARG002
        # Threads do not wait for each other here: one may hold a lock in the database that another waits for.
        at = time.monotonic()
        found = await self._database.repeat(
            lambda connection: self._store.count_depth(connection, queue, limit), is_asked=False
        )
        known.count(found, at=at, took=time.monotonic() - at)


class _SubmittingHere(_WriterHere, SubmittingWriter):
    """The same, of a role that may only enqueue."""


class DjangoQueue(PgQueue):
    """The PgQueue of a backend: enqueues on Django's connection as well, whether or not it is open."""

    def __init__(self, settings: BackendSettings, **options: Any) -> None:
        super().__init__(settings.address(), schema=settings.schema, **options)
        self._alias = settings.database
        self._here: _WriterHere | None = None
        self._making = threading.Lock()

    def enqueue_here(self, call: Signature[Any]) -> Written:
        """Enqueue a call in the transaction that Django has open, or at once.

        If the write fails, a savepoint keeps the rest of the transaction whole. Raises what `enqueue_many`
        raises, SchemaError, and what Django raises.
        """
        connection = checked_connection(self._alias)
        # Also says so if this thread may not use it now: it runs an event loop.
        connection.ensure_connection()
        is_alone = not connection.in_atomic_block and connection.get_autocommit()
        with (
            schema_errors(self._alias, self.schema),
            transaction.atomic(using=self._alias) if is_alone else nullcontext(),
            connection.wrap_database_errors,
        ):
            here = DjangoHere("enqueue", connection)
            here.is_in_transaction()
            writer = self._here or self._make_writer(connection)
            writer.lanes.expire()
            handle = call_here(lambda hand: self._write_here(writer, hand, here, call))
            with connection.cursor() as cursor:
                cursor.execute("select now()")
                [[at]] = cursor.fetchall()
        return Written(UUID(str(handle.id)), at, handle.created)

    def _make_writer(self, connection: Any) -> _WriterHere:
        with connection.cursor() as cursor:
            cursor.execute(load_statements(self.schema)["read_rights"])
            rights = Rights(*cursor.fetchone())
        kind = _SubmittingHere if rights.submits and not rights.writes else _WriterHere
        with self._making:
            if self._here is None:
                beside = _Beside(self._alias, self.schema)
                self._here = kind(beside, self._store, self._signals, self._depths, self._observers)
            return self._here

    async def _write_here(
        self, writer: _WriterHere, hand: Hand, here: DjangoHere, call: Signature[Any]
    ) -> JobHandle[Any]:
        connection, _ = await LentConnection(hand, here).runner()

        async def write(calls: Iterable[Signature[Any]]) -> list[JobHandle[Any]]:
            intake, began_at = Intake(self._reader, calls), time.monotonic()
            await writer.write(intake, connection, None)
            self._tell(intake.batch, time.monotonic() - began_at, is_committed=False)
            return [
                JobHandle(self, job_id, definition, created=created, replaced=replaced)
                for (job_id, created, replaced), definition in zip(
                    intake.batch.handled(), intake.definitions, strict=True
                )
            ]

        [handle] = await around_enqueue(self._enqueueing, (call,), write)
        return handle

    def _tell(self, *told: Any, **how: Any) -> None:
        tell = partial(super()._tell, *told, **how)
        if self._host is None:
            tell()
        else:
            # Observers belong to the event loop that it is open in.
            self._host.get_loop().call_soon_threadsafe(tell)
