"""Statements on what the status apps of all processes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgqueue.store.base import Statements

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


class WebStatements(Statements):
    """Statements on login sessions and the secret of cursors."""

    async def read_web_secret(self, connection: Connection) -> str:
        """Return what cursors are sealed with."""
        return str(await connection.fetchval(self._sql["read_web_secret"]))

    async def index_owners(self, connection: Connection) -> None:
        """Make the index of owners, if there is none."""
        await connection.execute(self._sql["index_owners"])

    async def has_owner_index(self, connection: Connection) -> bool:
        """Return whether there is the index of owners."""
        return bool(await connection.fetchval(self._sql["has_owner_index"]))

    async def end_session(self, connection: Connection, session: str, valid_until: float) -> None:
        """Record that *session*, valid until then (seconds since 1970), has ended."""
        await connection.execute(self._sql["end_session"], session, valid_until)

    async def is_session_ended(self, connection: Connection, session: str) -> bool:
        """Return whether *session* was ended."""
        return bool(await connection.fetchval(self._sql["is_session_ended"], session))
