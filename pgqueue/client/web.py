"""What the status apps of all processes share."""

from __future__ import annotations

from pgqueue.client.parts import Parts
from pgqueue.model.checks import positive_seconds, text


class WebInterface(Parts):
    """What status apps record in the database, so that it holds in all processes. For `pgqueue.web`."""

    async def web_secret(self) -> bytes:
        """Return the secret with which status apps seal cursors."""
        async with self._database.acquire() as connection:
            return (await self._store.read_web_secret(connection)).encode()

    async def index_owners(self) -> None:
        """Make the index by which a status app with `owner_header=True` finds the jobs of one user.

        Only jobs with headers are in it. Needs the role that owns the tables. Making it reads all jobs, and
        enqueueing waits for that; with millions of jobs, run it when there is little to do.
        """
        async with self._database.acquire() as connection:
            await self._store.index_owners(connection)

    async def has_owner_index(self) -> bool:
        """Return whether there is the index that `index_owners` makes."""
        async with self._database.acquire() as connection:
            return await self._store.has_owner_index(connection)

    async def end_web_session(self, session: str, *, valid_until: float) -> None:
        """End the login *session*, which is valid until then (seconds since 1970), in every process.

        Raises InvalidOptionError.
        """
        text("end_web_session: session", session)
        valid_until = positive_seconds("end_web_session: valid_until", valid_until)
        async with self._database.acquire() as connection:
            await self._store.end_session(connection, session, valid_until)

    async def is_web_session_ended(self, session: str) -> bool:
        """Return whether the login *session* was ended, in whatever process. Raises InvalidOptionError."""
        text("is_web_session_ended: session", session)
        async with self._database.acquire() as connection:
            return await self._store.is_session_ended(connection, session)
