"""Notifications between processes: hints that there is something to look at.

One connection per process listens and notifies. Polling finds what is lost here. An enqueue is announced
after its commit: the first one at once, later ones at most once every few milliseconds, because each
notifying transaction takes a lock that the whole database shares.

Messages on the channel named after the schema: `ready LANE`, `cancel JOB`, `settings` (they were changed),
`attend` (there are notes that whoever wrote them does not attend to: in a caller's transaction, say),
`watch` (a client awaits results). On the channel for ended jobs: `JOB JOB ...`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from uuid import UUID

import anyio
import asyncpg

from pgqueue.background.loop import Loop
from pgqueue.database.link import Link
from pgqueue.database.outages import (
    AWAY_ERRORS,
    RECONNECT_PAUSES,
    is_of_notifications,
    told,
)
from pgqueue.database.patience import Reminder
from pgqueue.database.pool import Database
from pgqueue.store import Store

logger = logging.getLogger("pgqueue.signals")

FINISHED_IDS = 200
"""Job ids in one notification, whose payload may have 8,000 bytes at most."""
NOTIFY_PAUSE = 0.015
"""Seconds between two notifying transactions of a process."""
STANDBY_PAUSES = (*RECONNECT_PAUSES, 2.0, 5.0, 10.0)
"""Seconds between attempts to connect again where the server takes no LISTEN; the last pause repeats.

It does not before it is promoted, and until then polling finds everything.
"""
PROBE_INTERVAL = 5.0
"""Seconds of silence after which the connection is probed."""


class Signals:
    """Listens and notifies for one process. Opens its connection when first needed."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self.loop = Loop("notifications")
        self._link = Link(database, durable=False)
        self._listeners: dict[str, list[Callable[[str], None]]] = {}
        self._on_connect: list[Callable[[], None]] = []
        self._outgoing: dict[str, dict[str, None]] = {}
        self._wakeup = anyio.Event()
        self._sent = anyio.Event()
        self._malformed = Reminder()
        self._waiting = Reminder()
        self._is_sending = False
        self._works_since = float("inf")
        self._listening_on: asyncpg.Connection[asyncpg.Record] | None = None

    @property
    def is_listening(self) -> bool:
        """Whether notifications arrive now. If not, changes are found by polling alone."""
        return self._listening_on is not None and not self._listening_on.is_closed()

    @property
    def finished_channel(self) -> str:
        """The channel on which the ids of ended jobs are sent."""
        return f"{self._database.schema}_finished"

    def publish(self, message: str) -> None:
        """Send *message* soon, and tell this process at once. Equal messages are sent once."""
        self.tell_here(message)
        self._send(self._database.schema, message)

    def tell_here(self, message: str) -> None:
        """Tell this process alone."""
        for on_message in self._listeners.get(self._database.schema, ()):
            on_message(message)

    def publish_finished(self, ids: Iterable[UUID]) -> None:
        """Send the ids of ended jobs soon."""
        names = list(map(str, ids))
        for start in range(0, len(names), FINISHED_IDS):
            self._send(self.finished_channel, " ".join(names[start : start + FINISHED_IDS]))

    @contextlib.asynccontextmanager
    async def listen(
        self, on_message: Callable[[str], None], on_connect: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Call *on_message* with each message to workers, and *on_connect* whenever listening starts anew."""
        self._subscribe(self._database.schema, on_message)
        self._on_connect.append(on_connect)
        try:
            yield
        finally:
            self._listeners[self._database.schema].remove(on_message)
            self._on_connect.remove(on_connect)

    def listen_finished(self, on_message: Callable[[str], None]) -> None:
        """Call *on_message* with the ids of ended jobs, until `stop_listening_finished`."""
        self._subscribe(self.finished_channel, on_message)

    def stop_listening_finished(self, on_message: Callable[[str], None]) -> None:
        """Stop calling *on_message*."""
        self._listeners[self.finished_channel].remove(on_message)

    def _subscribe(self, channel: str, on_message: Callable[[str], None]) -> None:
        self._listeners.setdefault(channel, []).append(on_message)
        self._wakeup.set()

    def _send(self, channel: str, message: str) -> None:
        self._outgoing.setdefault(channel, {})[message] = None
        self._wakeup.set()

    async def drain(self) -> None:
        """Wait until all published messages have been sent."""
        while self._outgoing or self._is_sending:
            self._sent = anyio.Event()
            await self._sent.wait()

    async def run(self) -> None:
        """Listen and send until cancelled."""
        with self.loop.lifetime():
            await self.loop.outlive(self._run)

    async def _run(self) -> None:
        # A new event each time, because an event belongs to the event loop in which it was waited for.
        while not (self._outgoing or any(self._listeners.values())):
            self._wakeup = anyio.Event()
            await self._wakeup.wait()
        failures = 0
        try:
            while True:
                self._works_since = float("inf")
                try:
                    if self._database.is_pooled:
                        await self._send_only()
                    else:
                        async with self._link.use() as connection:
                            await self._serve(connection)
                except (*AWAY_ERRORS, asyncpg.ProgramLimitExceededError) as error:
                    if not isinstance(error, AWAY_ERRORS) and not is_of_notifications(error):
                        raise
                    # A connection that ends at once counts as a failure, too, and so does one that is not
                    # allowed to listen; otherwise the server would be asked for twenty per second.
                    if time.monotonic() - self._works_since > RECONNECT_PAUSES[-1]:
                        failures = 0
                    is_refused = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
                    pauses = STANDBY_PAUSES if is_refused else RECONNECT_PAUSES
                    pause = pauses[min(failures, len(pauses) - 1)]
                    failures += 1
                    logger.log(
                        self._waiting.level(),
                        "notifications: waiting for the database (%s); polling continues, "
                        "next attempt in %g s",
                        told(error),
                        pause,
                    )
                    await anyio.sleep(pause)
        finally:
            # After an unexpected error, too: its session may be anything.
            with anyio.CancelScope(shield=True):
                await self._link.close()

    async def _serve(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        listening: set[str] = set()
        # The end of an idle connection raises nothing here, so it has to wake the loop.
        connection.add_termination_listener(self._wake)
        while True:
            # Re-armed before looking, so that nothing published from here on is slept through.
            self._wakeup = anyio.Event()
            if connection.is_closed():
                raise ConnectionResetError("the connection was closed")
            for channel in self._listeners.keys() - listening:
                await connection.add_listener(channel, self._hear)
                listening.add(channel)
                self._listening_on = connection
                # Whatever was announced while this process did not listen is lost. Listening first and
                # looking once afterwards finds it.
                for look in self._on_connect:
                    look()
            self._works_since = min(self._works_since, time.monotonic())
            if self._outgoing:
                await self._flush(connection)
                await anyio.sleep(NOTIFY_PAUSE)
            else:
                with anyio.move_on_after(PROBE_INTERVAL) as silence:
                    await self._wakeup.wait()
                if silence.cancelled_caught:
                    # A host that is gone closes no connection; only a query shows it.
                    await connection.fetchval("select 1", timeout=PROBE_INTERVAL)

    def _wake(self, _connection: object) -> None:
        self._wakeup.set()

    async def _send_only(self) -> None:
        while True:
            self._wakeup = anyio.Event()
            if self._outgoing:
                async with self._link.use() as connection:
                    await self._flush(connection)
                self._works_since = min(self._works_since, time.monotonic())
                await anyio.sleep(NOTIFY_PAUSE)
            else:
                await self._wakeup.wait()

    async def _flush(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        outgoing, self._outgoing = self._outgoing, {}
        self._is_sending = True
        try:
            with self.loop.step():
                for channel, messages in outgoing.items():
                    await self._store.notify(connection, channel, list(messages))
        finally:
            self._is_sending = False
            self._sent.set()

    def _hear(self, _connection: object, _pid: int, channel: str, message: object) -> None:
        for on_message in self._listeners.get(channel, ()):
            try:
                on_message(str(message))
            except ValueError:
                self._complain(str(message), channel)

    def _complain(self, message: str, channel: str) -> None:
        """Log a malformed notification, at most once a minute: any role may send any number of them."""
        logger.log(
            self._malformed.level(),
            "ignoring malformed notifications on channel %s, such as %.100r",
            channel,
            message,
        )
