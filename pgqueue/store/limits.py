"""Statements on limits: what they are, how much of them is in use, and what waits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pgqueue.model.limits import MOST_OF_KEY, LimitJobs, LimitKey, LimitUse
from pgqueue.model.rates import Rate
from pgqueue.store.base import Statements

if TYPE_CHECKING:
    from asyncpg import Record

    from pgqueue.database.connection import Connection

MOST_KEYS: Final = 4000
"""Keys of all limits together that a list of limits looks at."""
MOST_JOBS: Final = 10_000
"""Jobs of all limits together that a list of limits counts."""
KEYS_SEARCHED: Final = 1000
"""Keys among which those that most jobs wait for are looked for."""
SAMPLE_BLOCKS: Final = 100
"""Blocks of a table that an estimate reads."""


class LimitStatements(Statements):
    """Statements on limits."""

    async def set_limit(
        self,
        connection: Connection,
        name: str,
        slots: int | None,
        rate: Rate | None,
        *,
        actor: str | None,
        reason: str | None,
    ) -> None:
        """Change a limit, while jobs wait for it; without slots and rate it lets all through."""
        per_second, burst = (None, None) if rate is None else (rate.per_second, rate.at_once)
        await connection.execute(self._sql["set_limit"], name, slots, actor, reason, per_second, burst)

    async def reset_limit(
        self, connection: Connection, name: str, *, actor: str | None, reason: str | None
    ) -> bool | None:
        """Make a limit what code declared of it; False: it is. None: there is none."""
        changed: bool | None = await connection.fetchval(self._sql["reset_limit"], name, actor, reason)
        return changed

    async def list_limits(
        self, connection: Connection, names: Collection[str] | None, after: str, limit: int
    ) -> list[LimitUse]:
        """Return limits *names*, or up to *limit* of them by name, those after *after*.

        What is too much to count is estimated.
        """
        rows = await connection.fetch(self._sql["list_limits"], names, after, limit, MOST_KEYS, MOST_JOBS)
        limits = {row["name"]: LimitUse(**dict(row.items())) for row in rows}
        if inexact := [name for name, each in limits.items() if not each.is_exact]:
            for row in await connection.fetch(self._sql["estimate_limits"], SAMPLE_BLOCKS, inexact):
                limits[row["name"]] = _estimated(limits[row["name"]], row)
        return list(limits.values())

    async def list_limit_keys(
        self, connection: Connection, name: str, reached: UUID, limit: int, key: str | None = None
    ) -> list[tuple[UUID, LimitKey]]:
        """Return up to *limit* keys of a limit, with their digests, from *reached* downwards; or *key*."""
        rows = await connection.fetch(self._sql["list_limit_keys"], name, reached, limit, key, MOST_OF_KEY)
        return [(row["id"], _key_of(row)) for row in rows]

    async def find_busy_keys(self, connection: Connection, name: str, limit: int) -> list[LimitKey]:
        """Return up to *limit* keys of a limit that most jobs wait for, most first."""
        rows = await connection.fetch(
            self._sql["find_busy_keys"], name, limit, MOST_OF_KEY, KEYS_SEARCHED, SAMPLE_BLOCKS
        )
        return [_key_of(row) for row in rows]

    async def list_limit_jobs(self, connection: Connection, name: str, key: str, limit: int) -> LimitJobs:
        """Return the first *limit* jobs that hold a key, and the first that wait for it."""
        row = await connection.fetchrow(self._sql["list_limit_jobs"], name, key, limit)
        assert row is not None
        return LimitJobs(row["holders"], row["waiting"])


def _key_of(row: Record) -> LimitKey:
    return LimitKey(row["key"], row["in_use"], row["waiting"], row["waits_since"])


def _estimated(limit: LimitUse, row: Record) -> LimitUse:
    """Return *limit* with an estimate where that is more than was counted."""
    since = [each for each in (limit.waits_since, row["waits_since"]) if each is not None]
    return replace(
        limit,
        in_use=max(limit.in_use, row["in_use"]),
        waiting=max(limit.waiting, row["waiting"]),
        waits_since=min(since, default=None),
    )
