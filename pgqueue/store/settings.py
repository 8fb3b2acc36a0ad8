"""Statements on pauses and run-time options, and on notifications."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pgqueue.model.setting import Kind, Setting
from pgqueue.model.stored_json import decode_json
from pgqueue.options.run_time import Settings
from pgqueue.store.base import Statements

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class SettingStatements(Statements):
    """Statements on pauses and run-time options, and on notifications."""

    async def set_weight(
        self, connection: Connection, queue: str, key: str, weight: float | None, actor: str | None
    ) -> None:
        """Change how many windows a key of a fair queue has; None: one."""
        await connection.execute(self._sql["set_weight"], queue, key, weight, actor)

    async def list_weights(self, connection: Connection, queue: str) -> dict[str, float]:
        """Return the weights of the keys of a fair queue, but for those of one window."""
        rows = await connection.fetch(self._sql["list_weights"], queue)
        return {row["key"]: row["weight"] for row in rows}

    async def set_paused(
        self,
        connection: Connection,
        kind: Kind,
        name: str,
        *,
        paused: bool,
        actor: str | None,
        reason: str | None,
    ) -> bool:
        """Pause or resume a queue or a task; False: it is so already."""
        return bool(await connection.fetchval(self._sql["set_paused"], kind, name, paused, actor, reason))

    async def await_claims(self, connection: Connection) -> None:
        """Wait for every claim that is under way."""
        await connection.execute(self._sql["await_claims"])

    async def return_paused(self, connection: Connection) -> None:
        """Give back what workers have prefetched of paused lanes."""
        await connection.execute(self._sql["return_paused"])

    async def remove_queue(self, connection: Connection, queue: str, most: int) -> tuple[int, bool]:
        """Remove a queue without live jobs; return how many it has, to *most*, and whether it was removed."""
        row = await connection.fetchrow(self._sql["remove_queue"], queue, most)
        assert row is not None
        return row["jobs"], row["is_removed"]

    async def configure(
        self, connection: Connection, task: str, options: str | None, *, actor: str | None, reason: str | None
    ) -> None:
        """Set a task's options, as JSON; None: those of its declaration alone."""
        await connection.execute(self._sql["configure"], task, options, actor, reason)

    async def read_settings(self, connection: Connection) -> Settings:
        """Return pauses and run-time options in the form that workers use."""
        rows = await connection.fetch(self._sql["read_settings"], True)
        fair = frozenset(row["name"] for row in rows if row["kind"] == "fair")
        settings = Settings.of(
            (row["kind"], row["name"], row["paused_at"] is not None, row["options"])
            for row in rows
            if row["kind"] != "fair"
        )
        return replace(settings, fair_queues=fair) if fair else settings

    async def list_settings(self, connection: Connection) -> list[Setting]:
        """Return pauses and run-time options in the form that operators read."""
        return [
            Setting(
                kind=row["kind"],
                name=row["name"],
                paused_at=row["paused_at"],
                options=_options(row["options"]),
                actor=row["actor"],
                reason=row["reason"],
                changed_at=row["changed_at"],
            )
            for row in await connection.fetch(self._sql["read_settings"], False)
        ]

    async def notify(self, connection: Connection, channel: str, messages: Sequence[str]) -> None:
        """Send *messages* to all sessions that listen on *channel*."""
        await connection.execute(self._sql["notify"], channel, messages)


def _options(stored: str | None) -> dict[str, Any]:
    """Return stored options; those that cannot be read are left out, as workers ignore them."""
    try:
        options = decode_json(stored or "{}")
    except ValueError:
        return {}
    return options if isinstance(options, dict) else {}
