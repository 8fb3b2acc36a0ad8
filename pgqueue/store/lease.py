"""Statements on leases, the rights of worker processes to the jobs that they claimed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from pgqueue.model.jobs import JobStatus
from pgqueue.store.base import Statements
from pgqueue.store.values import DoubtfulLease, Rescued

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class LeaseStatements(Statements):
    """Statements on leases."""

    async def register_lease(
        self,
        connection: Connection,
        lease_id: UUID,
        worker: str,
        queues: Sequence[str],
        ttl: float,
        *,
        prefetch: int,
        lock_key: int | None,
        max_losses: Mapping[str, int],
        version: str | None = None,
        tasks: Iterable[str] | None = None,
        slots: int | None = None,
        host: str | None = None,
        pid: int | None = None,
        memory: int | None = None,
    ) -> None:
        """Register a lease. *tasks*: those that the worker declares, or None if it may declare any.

        *slots*: the attempts that it makes at once; None: it holds jobs without slots.
        """
        await connection.execute(
            self._sql["register_lease"],
            lease_id,
            worker,
            queues,
            timedelta(seconds=ttl),
            prefetch,
            lock_key,
            json.dumps(dict(max_losses)),
            version,
            None if tasks is None else list(tasks),
            slots,
            host,
            pid,
            memory,
        )

    async def renew_lease(
        self,
        connection: Connection,
        lease_id: UUID,
        ttl: float,
        *,
        loop_lag: float | None = None,
        abandoned_threads: int | None = None,
        memory: int | None = None,
    ) -> bool:
        """Renew a lease, and store what its worker says of itself; return whether it is still valid."""
        renewed = await connection.fetchval(
            self._sql["renew_lease"], lease_id, timedelta(seconds=ttl), loop_lag, abandoned_threads, memory
        )
        return renewed is not None

    async def hold_lock(self, connection: Connection, key: int) -> bool:
        """Take an advisory lock for the life of *connection*; return False if another session holds it."""
        return bool(await connection.fetchval(self._sql["hold_lock"], key))

    async def lock_lease(self, connection: Connection, lease_id: UUID) -> None:
        """Lock a lease for the transaction, after waiting for claims under it."""
        await connection.execute(self._sql["lock_lease"], lease_id)

    async def delete_lease(self, connection: Connection, lease_id: UUID) -> bool:
        """Remove a lease that holds no jobs; return False if it holds some, or is gone."""
        return await connection.fetchval(self._sql["delete_lease"], lease_id) is not None

    async def find_missing_leases(self, connection: Connection) -> list[UUID]:
        """Return the leases that running jobs name and that there are not."""
        return [row["lease_id"] for row in await connection.fetch(self._sql["find_missing_leases"])]

    async def remake_leases(self, connection: Connection, ids: Sequence[UUID]) -> None:
        """Make leases that were removed while they held jobs, as expired ones."""
        await connection.execute(self._sql["remake_leases"], ids)

    async def find_doubtful_leases(
        self, connection: Connection, own: UUID | None
    ) -> tuple[datetime, list[DoubtfulLease]]:
        """Return the database's time, and the leases whose workers may be dead, but for one's *own*."""
        rows = await connection.fetch(self._sql["find_doubtful_leases"], own)
        return rows[0]["now"], [DoubtfulLease(*row[1:]) for row in rows if row["id"] is not None]

    async def lock_expired_lease(self, connection: Connection, lease_id: UUID) -> bool:
        """Lock an expired lease for the transaction; return False if another worker is rescuing it."""
        return await connection.fetchval(self._sql["lock_expired_lease"], lease_id) is not None

    async def find_held(self, connection: Connection, lease_id: UUID, without: Iterable[UUID]) -> UUID | None:
        """Return the first job of a lease, except those in *without*."""
        found: UUID | None = await connection.fetchval(self._sql["find_held"], lease_id, list(without))
        return found

    async def note_loss(self, connection: Connection, lease_id: UUID) -> None:
        """Note with an expired lease, before its first rescue, how many jobs ran beside each other."""
        await connection.execute(self._sql["note_loss"], lease_id)

    async def expire_lease(self, connection: Connection, lease_id: UUID, renewed_at: datetime) -> bool:
        """Expire a lease now, unless it was renewed after *renewed_at*."""
        return await connection.fetchval(self._sql["expire_lease"], lease_id, renewed_at) is not None

    async def rescue(
        self,
        connection: Connection,
        lease_id: UUID,
        limit: int,
        max_losses: int,
        without: Iterable[UUID] = (),
    ) -> list[Rescued]:
        """Rescue jobs of an expired, locked lease, except those in *without*."""
        rows = await connection.fetch(self._sql["rescue"], lease_id, limit, max_losses, list(without))
        return [
            Rescued(
                id=row["id"],
                task=row["task"],
                lane=row["lane"],
                status=JobStatus(row["status"]),
                queue=row["queue"] or "",
                attempt=row["attempt"],
                was_running=row["was_running"],
            )
            for row in rows
        ]
