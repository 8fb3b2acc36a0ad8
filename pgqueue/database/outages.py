"""What a lost or refused connection looks like, and how long to wait before the next try."""

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
    asyncpg.InternalClientError,  # used between the server's last word and the end of the stream
)
"""What a lost or refused connection raises. All of them may mean: connect again, and try again."""

RECONNECT_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
"""Seconds to wait between tries to connect again; the last one repeats."""
