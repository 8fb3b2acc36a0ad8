"""Notifications between processes: hints that there is something to look at.

One connection a process listens and notifies. Whatever is lost here, polling finds. What an enqueue
announces is sent after its commit, at once for the first and then at most once every few milliseconds,
because each notifying transaction takes a lock that the whole database shares.

Messages on the channel named like the schema: `ready LANE`, `cancel JOB`, `settings` (somebody changed
them), `watch` (somebody awaits results). On the channel for finished jobs: `JOB JOB ...`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from itertools import chain, repeat
from typing import Protocol
from uuid import UUID

import anyio
import asyncpg

from pgqueue.database.outages import CONNECTION_ERRORS, RECONNECT_PAUSES
from pgqueue.database.pool import Database, Link
from pgqueue.store import Store

logger = logging.getLogger("pgqueue.signals")

FINISHED_IDS = 200
"""Job ids in one notification: its payload ends at 8,000 bytes."""
NOTIFY_PAUSE = 0.015
"""Seconds between two notifying transactions of a process."""
PROBE_INTERVAL = 5.0
"""Seconds of silence after which the connection is asked whether it still lives."""


class Signals:
    """A process's ear and voice. Opens its connection when first needed."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store
        self._link = Link(database, durable=False)
        self._listeners: dict[str, list[Callable[[str], None]]] = {}
        self._on_connect: list[Callable[[], None]] = []
        self._outgoing: dict[str, dict[str, None]] = {}
        self._wakeup = anyio.Event()
        self._sent = anyio.Event()
        self._is_sending = False
        self.is_listening = False
        """Whether notifications arrive now. False: polling is all there is."""

    @property
    def finished_channel(self) -> str:
        """The channel on which finished jobs are named."""
        return f"{self._database.schema}_finished"

    def publish(self, message: str) -> None:
        """Send *message* soon, and tell this process at once. The same message twice is sent once."""
        for on_message in self._listeners.get(self._database.schema, ()):
            on_message(message)
        self._send(self._database.schema, message)

    def publish_finished(self, ids: Iterable[UUID]) -> None:
        """Send the ids of finished jobs soon."""
        names = list(map(str, ids))
        for start in range(0, len(names), FINISHED_IDS):
            self._send(self.finished_channel, " ".join(names[start : start + FINISHED_IDS]))

    @contextlib.asynccontextmanager
    async def listen(
        self, on_message: Callable[[str], None], on_connect: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Call *on_message* for what workers hear, and *on_connect* whenever listening starts anew."""
        self._subscribe(self._database.schema, on_message)
        self._on_connect.append(on_connect)
        try:
            yield
        finally:
            self._listeners[self._database.schema].remove(on_message)
            self._on_connect.remove(on_connect)

    def listen_finished(self, on_message: Callable[[str], None]) -> None:
        """Call *on_message* with the ids of finished jobs, until `stop_listening_finished`."""
        self._subscribe(self.finished_channel, on_message)

    def stop_listening_finished(self, on_message: Callable[[str], None]) -> None:
        """Call *on_message* no more."""
        self._listeners[self.finished_channel].remove(on_message)

    def _subscribe(self, channel: str, on_message: Callable[[str], None]) -> None:
        self._listeners.setdefault(channel, []).append(on_message)
        self._wakeup.set()

    def _send(self, channel: str, message: str) -> None:
        self._outgoing.setdefault(channel, {})[message] = None
        self._wakeup.set()

    async def drain(self) -> None:
        """Wait until what was published is sent."""
        while self._outgoing or self._is_sending:
            self._sent = anyio.Event()
            await self._sent.wait()

    async def run(self) -> None:
        """Listen and send until cancelled."""
        # A new one each time: an event belongs to the event loop in which it was waited for.
        while not (self._outgoing or any(self._listeners.values())):
            self._wakeup = anyio.Event()
            await self._wakeup.wait()
        try:
            pauses = chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1]))
            while True:
                try:
                    if self._database.is_pooled:
                        await self._send_only()
                    else:
                        async with self._link.use() as connection:
                            pauses = chain(RECONNECT_PAUSES, repeat(RECONNECT_PAUSES[-1]))
                            await self._serve(connection)
                except CONNECTION_ERRORS as error:
                    pause = next(pauses)
                    logger.warning(
                        "notifications: waiting for the database (%s: %s); polling goes on, next try in %g s",
                        type(error).__name__,
                        error,
                        pause,
                    )
                    await anyio.sleep(pause)
                finally:
                    self.is_listening = False
        finally:
            with anyio.CancelScope(shield=True):
                await self._link.close()

    async def _serve(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        listening: set[str] = set()
        while True:
            # Re-armed before looking: what is published from here on is not slept through.
            self._wakeup = anyio.Event()
            for channel in self._listeners.keys() - listening:
                await connection.add_listener(channel, self._hear)
                listening.add(channel)
                self.is_listening = True
                # A listener dies with its connection. Listen first and look once after: whatever was
                # announced in between is found by looking.
                for look in self._on_connect:
                    look()
            if self._outgoing:
                await self._flush(connection)
                await anyio.sleep(NOTIFY_PAUSE)
            else:
                with anyio.move_on_after(PROBE_INTERVAL) as silence:
                    await self._wakeup.wait()
                if silence.cancelled_caught:
                    # A socket can die without a word; only asking tells.
                    await connection.fetchval("select 1", timeout=PROBE_INTERVAL)

    async def _send_only(self) -> None:
        while True:
            self._wakeup = anyio.Event()
            if self._outgoing:
                async with self._link.use() as connection:
                    await self._flush(connection)
                await anyio.sleep(NOTIFY_PAUSE)
            else:
                await self._wakeup.wait()

    async def _flush(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        outgoing, self._outgoing = self._outgoing, {}
        self._is_sending = True
        try:
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
                logger.warning("notification %r on channel %s makes no sense: passed over", message, channel)


class Announce(Protocol):
    """Told what was committed: jobs that are terminal now, and lanes that have new ready jobs."""

    def __call__(self, *, finished: Collection[UUID], lanes: Collection[int]) -> None:
        """Tell."""
