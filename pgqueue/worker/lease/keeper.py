"""Keeps the worker's lease, from a thread of its own.

A handler that blocks the event loop must not cost the lease, so nothing here waits for that loop. The lease
is renewed every third of its time. It counts as lost by the local monotonic clock, read before the renewal
was sent: the database counts from when the renewal arrives, which is later, so this worker stops its attempts
before a peer may rescue their jobs. It goes on trying to renew the lease: where the server was away, nobody
has rescued anything, and the outcomes that were reached still count. Only when the lease is gone, or its
rescue has begun, it goes on under a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import anyio
import asyncpg

from pgqueue.background.log_writer import AsideLogger
from pgqueue.database.link import Link
from pgqueue.database.outages import ANY_REFUSAL, told
from pgqueue.database.patience import Reminder, persist
from pgqueue.database.sharing import REFUSALS, FirstLink
from pgqueue.upkeep.state import WorkerState
from pgqueue.worker.attempt.attempt import Stop
from pgqueue.worker.host import WorkerHost
from pgqueue.worker.lease.giving_back import give_lease_back
from pgqueue.worker.lease.loop_watchdog import Watchdog
from pgqueue.worker.lease.own_memory import memory_of_process
from pgqueue.worker.slots import Slots

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

# A log handler of the program may block, and nothing here may wait for it.
logger = AsideLogger("pgqueue.worker")

RETRY_PAUSE = 0.2
"""Seconds between two attempts to renew while the database is unavailable. Short: a process whose connection
is gone for some seconds looks dead to its peers."""
LEAST_TRY = 1.0
"""Seconds that a renewal may take in any case, of what is left of the lease."""
LATE_TRY = 10.0
"""Twice the seconds that one attempt to renew a lease may take that is over by the clock here."""
STOP_WITHIN = 5.0
"""Seconds that the thread may take to end."""
DROP_WITHIN = 1.0
"""Seconds that removing the lease may take when a worker stops; after that it expires by itself."""
LOCK_PAUSE = 2.0
"""Seconds between two attempts to get the lock back from an older session, which the server does not know to
be dead yet. Peers see the lock held until then, and free for less than they wait."""
LOST = "lease %s %s; stopping its attempts so that their jobs can be rescued"


@dataclass(frozen=True, slots=True)
class Holder:
    """What peers need to know of the worker that takes a lease."""

    worker: str
    queues: Sequence[str]
    prefetch: int
    max_losses: Mapping[str, int]
    version: str | None
    tasks: Sequence[str]
    slots: int


class LeaseKeeper:
    """Holds a lease for a worker, and another one when it is lost.

    On the worker's event loop it notes the lease in *state*; when a lease is lost, it stops the attempts in
    *slots*. *make_room* is to close another connection of the worker's, where the server refuses this one.
    *stand_in* renews on that loop, on whatever connection the worker has, where it refuses all the same.
    """

    def __init__(
        self,
        host: WorkerHost,
        holder: Holder,
        state: WorkerState,
        slots: Slots,
        *,
        ttl: float,
        make_room: Callable[[BaseException], None],
        stand_in: Link,
    ) -> None:
        self._stand_in = stand_in
        self._database = host.database
        self._make_room = make_room
        self._store = host.store
        self._holder = holder
        self._ttl = ttl
        self._state = state
        self._slots = slots
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: FirstLink | None = None
        self._stopping: asyncio.Event | None = None
        self._dropped: asyncio.Event | None = None
        self._latest: UUID | None = None
        self._reminder = Reminder()
        self._must_stop = False
        self._locked_by: int | None = None
        """The session that holds the lock; unknown at first, and asking twice does no harm."""
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self.renewed_at: float | None = None
        """When the lease was taken or last renewed, by the local monotonic clock."""

    async def run(self, watchdog: Watchdog) -> None:
        """Keep a lease until cancelled.

        *watchdog* runs in the same thread, as it has to go on while the worker's loop is blocked. How long
        that loop takes to turn is noted at each renewal.
        """
        worker_loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        self._forget_thread()

        def run_thread() -> None:
            try:
                asyncio.run(self._keep(worker_loop, watchdog))
            except BaseException as error:
                self._failure = error
            # Closed: the worker did not wait any longer for the end of this thread.
            with contextlib.suppress(RuntimeError):
                worker_loop.call_soon_threadsafe(ended.set)

        thread = threading.Thread(target=run_thread, name=f"pgqueue lease {self._holder.worker}", daemon=True)
        thread.start()
        try:
            await ended.wait()
            if self._failure is not None:
                if self._latest is not None:
                    # Nobody renews it.
                    self._lose(self._latest)
                raise self._failure
        finally:
            self._stop()
            with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_WITHIN):
                await ended.wait()

    def _forget_thread(self) -> None:
        """Forget an earlier thread, which has failed."""
        self._must_stop, self._failure, self._loop, self._stopping = False, None, None, None

    def look(self) -> None:
        """Renew now, in the keeper's thread: the lease may be gone."""
        self._on_dropped(None)

    def link_beside(self) -> Link:
        """Return a durable link for the keeper's thread, called there.

        Where it gets no connection of its own, it borrows the keeper's.
        """
        assert self._link is not None
        return self._link.beside(durable=True)

    def _stop(self) -> None:
        # Noted before looking for the thread's loop, as the thread looks here after making it: a worker
        # can be stopped before its thread has begun.
        self._must_stop = True
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None:
            # Closed: the thread has ended already.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stopping.set)

    async def _keep(self, worker_loop: asyncio.AbstractEventLoop, watchdog: Watchdog) -> None:
        self._worker_loop = worker_loop
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        self._dropped = asyncio.Event()
        if self._must_stop:
            return

        def make_room(error: BaseException) -> None:
            # Closed: the worker did not wait any longer for the end of this thread.
            with contextlib.suppress(RuntimeError):
                worker_loop.call_soon_threadsafe(self._make_room, error)

        # Nothing can stand in for this connection.
        link = self._link = FirstLink(self._database, make_room)
        keeping = asyncio.ensure_future(self._keep_leases(link, worker_loop, watchdog))
        stopping = asyncio.ensure_future(self._stopping.wait())
        beside = asyncio.ensure_future(watchdog.run())
        try:
            await asyncio.wait((keeping, stopping), return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                keeping.result()
        finally:
            for each in (keeping, stopping, beside):
                each.cancel()
            await asyncio.gather(keeping, stopping, beside, return_exceptions=True)
            await self._drop_latest(link)
            await link.close()

    async def _drop_latest(self, link: Link) -> None:
        """Give back a lease that the worker stopped too early to hear of. One that holds jobs stays."""
        if self._latest is None:
            return
        with contextlib.suppress(Exception):
            async with asyncio.timeout(DROP_WITHIN):
                await give_lease_back(self._store, link, self._latest, with_jobs=False)

    async def _keep_leases(
        self, link: Link, worker_loop: asyncio.AbstractEventLoop, watchdog: Watchdog
    ) -> None:
        while True:
            lease_id = self._latest = uuid4()
            lock_key = None if self._database.is_pooled else secrets.randbits(63)
            deadline = await persist(
                "taking a lease",
                lambda: self._take(link, lease_id, lock_key),  # noqa: B023
                errors=ANY_REFUSAL,
            )
            worker_loop.call_soon_threadsafe(self._state.use_lease, lease_id)
            await self._renew_until_gone(link, lease_id, lock_key, deadline, worker_loop, watchdog)
            worker_loop.call_soon_threadsafe(self._lose, lease_id)

    def _lose(self, lease_id: UUID) -> None:
        self._state.use_lease(None)
        self._slots.stop(Stop.RELEASE, lease_id=lease_id)

    async def _take(self, link: Link, lease_id: UUID, lock_key: int | None) -> float:
        async with link.use() as connection:
            connection.add_termination_listener(self._on_dropped)
            if lock_key is not None:
                await self._store.hold_lock(connection, lock_key)
            sent_at = time.monotonic()
            await self._store.register_lease(
                connection,
                lease_id,
                self._holder.worker,
                self._holder.queues,
                self._ttl,
                prefetch=self._holder.prefetch,
                lock_key=lock_key,
                max_losses=self._holder.max_losses,
                version=self._holder.version,
                tasks=self._holder.tasks,
                slots=self._holder.slots,
                host=socket.gethostname(),
                pid=os.getpid(),
                memory=memory_of_process(),
            )
        self.renewed_at = sent_at
        return sent_at + self._ttl

    async def _renew_until_gone(
        self,
        link: Link,
        lease_id: UUID,
        lock_key: int | None,
        deadline: float,
        worker_loop: asyncio.AbstractEventLoop,
        watchdog: Watchdog,
    ) -> None:
        self._locked_by = None
        pause, is_late, connects = self._ttl / 3, False, self._database.connects
        while True:
            await self._pause(min(pause, max(0.0, deadline - time.monotonic())))
            # Taken before the renewal is sent: the database counts from when it arrives, which is later.
            sent_at = time.monotonic()
            if sent_at >= deadline and not is_late:
                logger.error(LOST, lease_id, "was not renewed in time")
                worker_loop.call_soon_threadsafe(self._lose, lease_id)
                is_late = True
            left = min(self._ttl, LATE_TRY) if is_late else deadline - sent_at
            try:
                # A connection that does not answer takes half of what is left at most: others may.
                async with asyncio.timeout(max(left / 2, min(LEAST_TRY, left))):
                    renewed = await self._renew(link, lease_id, lock_key, watchdog)
            except Exception as error:
                # Whatever it is: as long as the lease lasts, the next renewal may succeed.
                if not isinstance(error, asyncpg.PostgresError):
                    link.drop()
                logger.log(
                    self._reminder.level(),
                    "lease %s: the database is unavailable (%s); %.1f s left to renew it",
                    lease_id,
                    told(error),
                    max(0.0, deadline - time.monotonic()),
                )
                await asyncio.sleep(RETRY_PAUSE)
                pause = 0.0
                continue
            if not renewed:
                logger.error(LOST, lease_id, "is being rescued, or gone")
                return
            if is_late:
                logger.warning("lease %s: renewed, before its rescue began; going on under it", lease_id)
                worker_loop.call_soon_threadsafe(self._state.use_lease, lease_id)
                is_late = False
            if self._database.connects != connects:
                # The server may have crashed: the claimer looks what became of the claims.
                connects = self._database.connects
                worker_loop.call_soon_threadsafe(self._state.claiming.set)
            self.renewed_at, deadline, pause = sent_at, sent_at + self._ttl, self._ttl / 3
            if lock_key is not None and self._locked_by is None:
                pause = min(pause, LOCK_PAUSE)

    async def _renew(self, link: Link, lease_id: UUID, lock_key: int | None, watchdog: Watchdog) -> bool:
        """Renew on the keeper's connection; where the server refuses it, on another one of the worker's."""
        threads = self._slots.executor.abandoned_threads

        async def renew(connection: Connection) -> bool:
            return await self._store.renew_lease(
                connection,
                lease_id,
                self._ttl,
                loop_lag=watchdog.lag,
                abandoned_threads=threads,
                memory=memory_of_process(),
            )

        async def renew_there() -> bool:
            async with self._stand_in.use() as connection:
                return await renew(connection)

        try:
            await link.open()
        except asyncpg.PostgresConnectionError:
            raise
        except REFUSALS as error:
            # Its lock went with its connection.
            self._locked_by = None
            logger.log(
                self._reminder.level(),
                "lease %s: the server refuses a connection (%s); renewing on another connection",
                lease_id,
                error,
            )
            return await asyncio.wrap_future(
                asyncio.run_coroutine_threadsafe(renew_there(), self._worker_loop)
            )
        async with link.use() as connection:
            connection.add_termination_listener(self._on_dropped)
            session = connection.get_server_pid()
            # A new session takes the lock again, before peers take this process for dead.
            if lock_key is not None and session != self._locked_by:
                is_locked = await self._store.hold_lock(connection, lock_key)
                self._locked_by = session if is_locked else None
            return await renew(connection)

    async def _pause(self, seconds: float) -> None:
        """Sleep, but no longer than the connection lives: the lock goes with it, and peers count seconds."""
        assert self._dropped is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._dropped.wait()
        self._dropped.clear()

    def _on_dropped(self, _connection: object) -> None:
        assert self._dropped is not None
        self._dropped.set()
