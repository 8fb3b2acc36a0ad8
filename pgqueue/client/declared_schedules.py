"""What code says of schedules, written by workers: when they start, and each minute."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final

from pgqueue.client.schedules import SchedulingParts
from pgqueue.database.outages import is_away
from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import shown
from pgqueue.schedules.definition import RULE, document_of, first_tick, what_of
from pgqueue.tasks.signature import Signature

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.worker")

LOCK_WAIT: Final = 5.0
"""Seconds to wait for a schedule that another session has locked: the other chores wait meanwhile."""

Use = Callable[[], "AbstractAsyncContextManager[Connection]"]


class DeclaredSchedules:
    """The schedules that the code of this process declares."""

    def __init__(self, parts: Callable[[], SchedulingParts]) -> None:
        self._parts_now = parts
        self._declared: dict[str, tuple[Signature[Any], Mapping[str, Any]]] = {}
        self._known: set[str] = set()
        """What this process has said that code declares."""

    def declare(self, name: str, call: Signature[Any], given: Mapping[str, Any]) -> None:
        """Note that code declares a schedule. Raises what `create` raises."""
        document_of(self._parts_now().reader, name, call, given)
        if name in self._declared:
            raise InvalidOptionError(f"{what_of(name)} is already declared; pass name=")
        self._declared[name] = call, dict(given)

    def forget(self) -> None:
        """Write all of them anew: what was written may be in another database."""
        self._known.clear()

    async def write(self, use: Use) -> None:
        """Write what the code of this process declares, over connections that *use* lends.

        Workers do it when they start and each minute. What an operator has edited stays. Of two versions of
        code, the one whose worker started last counts. Raises the last error when all have been tried.
        """
        parts, noted = self._parts_now(), dict[str, str | None]()
        failed: Exception | None = None
        for name, (call, given) in self._declared.items():
            if name in self._known:
                noted[name] = None
                continue
            try:
                document = document_of(parts.reader, name, call, given)
                declared = json.dumps(document)
                async with use() as connection, connection.transaction():
                    await parts.store.limit_lock_wait(connection, LOCK_WAIT)
                    await self._write_one(connection, name, document, declared)
            except Exception as error:
                if is_away(error):
                    raise
                # The other schedules are written, and tick; this one is tried again.
                logger.error("schedule %s is not declared: %s: %s", shown(name), type(error).__name__, error)
                failed = error
                continue
            self._known.add(name)
        if noted:
            async with use() as connection:
                await parts.store.note_declared(connection, noted)
        if failed is not None:
            raise failed

    async def _write_one(
        self, connection: Connection, name: str, document: dict[str, Any], declared: str
    ) -> None:
        store = self._parts_now().store
        row = await store.lock_schedule(connection, name)
        if row is not None and (row.declared == declared or row.schedule.edited_at is not None):
            await store.note_declared(connection, {name: declared})
            return
        now = row.now if row is not None else await connection.fetchval("select pg_catalog.now()")
        next_at = first_tick(what_of(name), document, now, is_needed=False)
        if row is not None and _has_rule_of(document, row.declared):
            # The same times: a tick that is due now is not lost to a deploy.
            kept = row.schedule.next_at
            next_at = None if kept is None else kept.isoformat()
        await store.put_schedule(
            connection,
            {**document, "next_at": next_at, "declared": declared},
            may_change=True,
            by_operator=False,
        )
        if row is not None:
            logger.warning("schedule %s is declared otherwise than before: changed", shown(name))


def _has_rule_of(document: Mapping[str, Any], declared: str | None) -> bool:
    try:
        stored = json.loads(declared or "{}")
        return all(stored[name] == document[name] for name in RULE)
    except (ValueError, LookupError, TypeError, RecursionError):
        # What is stored may be anything.
        return False
