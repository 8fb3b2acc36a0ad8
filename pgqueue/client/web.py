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
