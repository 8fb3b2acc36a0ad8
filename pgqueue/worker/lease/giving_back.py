"""Gives a lease back: the one place where a worker does, instead of letting it expire."""

from __future__ import annotations

from uuid import UUID

from pgqueue.database.link import Link
from pgqueue.store import Store


async def give_lease_back(store: Store, link: Link, lease_id: UUID, *, with_jobs: bool) -> None:
    """Remove a lease.

    *with_jobs*: first return to the queue what it holds; those attempts do not count. That is right only
    where nothing under the lease runs any more and all outcomes are written, or may be dropped. Otherwise a
    lease that holds jobs stays, and expires: its jobs count as lost.
    """
    async with link.use() as connection, connection.transaction():
        if with_jobs:
            # Waits for a claim that is under way, and whose answer may be lost: its jobs are here as well.
            await store.lock_lease(connection, lease_id)
            await store.release_unknown(connection, lease_id, [])
        await store.delete_lease(connection, lease_id)
