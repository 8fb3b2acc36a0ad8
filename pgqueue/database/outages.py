"""The errors of a lost or refused connection, and the pauses before connecting again."""

from __future__ import annotations

from typing import Final

import asyncpg

CONNECTION_ERRORS: Final = (
    OSError,  # TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, crash, starting up
    asyncpg.InsufficientResourcesError,  # too many connections
    asyncpg.ReadOnlySQLTransactionError,  # a failover left us on what is now a standby
    asyncpg.InterfaceError,  # "connection is closed"
    asyncpg.InternalClientError,  # used after the server's last message, before the stream has ended
)
"""The errors of a lost or refused connection. After each of them, connecting and trying again may help."""

RECONNECT_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
"""Seconds to wait between attempts to connect again; the last pause repeats."""
