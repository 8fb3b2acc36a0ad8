"""Events from outside, such as webhooks: each is processed once, however often it is delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueue.database.pool import Database
from pgqueue.model.checks import positive_seconds, text
from pgqueue.model.ids import new_id
from pgqueue.store import Store

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class Inbox:
    """Remembers which events were processed."""

    def __init__(self, database: Database, store: Store) -> None:
        self._database = database
        self._store = store

    async def mark_processed(
        self, source: object, event_id: object, ttl: object, connection: Connection | None
    ) -> bool:
        """Note an event, for *ttl* seconds; return whether it is new. See PgQueue.mark_processed."""
        checked = (
            text("mark_processed: the source", source),
            text("mark_processed: the event id", event_id),
            positive_seconds("mark_processed: the ttl", ttl),
            # If an answer is lost and the note is made again, the marker shows that the first note was ours.
            new_id(),
        )
        if connection is not None:
            return await self._store.mark_processed(connection, *checked)
        tries = 0

        async def mark(own: Connection) -> bool:
            nonlocal tries
            tries += 1
            is_new = await self._store.mark_processed(own, *checked)
            if tries > 1:
                # An earlier try may have been cut off while it waited for a standby.
                await self._store.reach_standby(own)
            return is_new

        return await self._database.repeat(mark)
