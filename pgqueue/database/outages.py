"""Which errors are about the database, and pass, and which are about one row. One table, by SQLSTATE."""

from __future__ import annotations

import re
from typing import Final

import asyncpg

from pgqueue.errors import (
    DatabaseUnavailableError,
    MissingPrivilegeError,
    PgQueueError,
    RefusedByDatabaseError,
    SchemaError,
)

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

PARAMETER_ERRORS: Final = (
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidParameterValueError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.ProtocolViolationError,  # a pooler's word for it
)
"""How servers and poolers refuse a parameter of a connection."""
CONNECT_ERRORS: Final = (
    *CONNECTION_ERRORS,
    asyncpg.PostgresError,
    asyncpg.ClientConfigurationError,
    UnicodeError,  # a host name that is none
)
"""What can keep a connection from being opened."""

RECONNECT_PAUSES: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
"""Seconds to wait between attempts to connect again; the last pause repeats."""

REMIND_AFTER: Final = 60.0
"""Seconds between two log lines that say what is waited for."""

AWAY_ERRORS: Final = (
    *CONNECTION_ERRORS,
    DatabaseUnavailableError,
    asyncpg.InvalidAuthorizationSpecificationError,  # NOLOGIN, another password: for a while, perhaps
    asyncpg.InvalidCatalogNameError,  # the database is being renamed or restored
    asyncpg.ObjectNotInPrerequisiteStateError,  # the database accepts no connections; a lock is not available
    asyncpg.TransactionRollbackError,  # deadlock, serialisation
    asyncpg.QueryCanceledError,
)
"""Errors that say nothing of a statement or of its rows."""

_OF_THE_SCHEMA: Final = (
    asyncpg.InvalidSchemaNameError,  # dropped, and about to be made again
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedObjectError,
    asyncpg.FeatureNotSupportedError,  # a plan of before a migration
)
"""Errors of a schema that lacks something, or is another one than it was."""

PASSING_ERRORS: Final = (
    *AWAY_ERRORS,
    *_OF_THE_SCHEMA,
    SchemaError,
    MissingPrivilegeError,
    asyncpg.InsufficientPrivilegeError,  # row-level security, too
    asyncpg.PostgresSystemError,  # the server's disk
)
"""Errors that pass, or that are mended: the same call, made again, can succeed. A worker waits for that."""

ANY_REFUSAL: Final = (*PASSING_ERRORS, asyncpg.PostgresError)
"""Errors of a statement without which a worker can do nothing else. A user's trigger raises what it likes."""

_ABOUT_VALUES: Final = frozenset({"21", "22", "23", "54", "XX"})
"""The classes of SQLSTATE that are about values: cardinality, data, constraints, limits, damaged rows."""


_CLOSED: Final = re.compile(r"connection (?:is|was|has been) (?:closed|released)")
"""How the driver says, in the middle of whatever it does, that there is no connection any more."""


def is_away(error: BaseException) -> bool:
    """Whether *error* says that the database is away, and nothing of a statement or its rows."""
    # asyncpg's error for a value that it cannot send is a ValueError, and an InterfaceError as well.
    return isinstance(error, AWAY_ERRORS) and not isinstance(error, ValueError)


def is_about_values(error: BaseException) -> bool:
    """Whether *error* is about the values of a row, and would come again however often it is tried.

    If not, it may be about all rows: a trigger of the user's raises what it likes.
    """
    if is_away(error) or (isinstance(error, PASSING_ERRORS) and not isinstance(error, ValueError)):
        return False
    if is_of_notifications(error):
        return False
    sqlstate = getattr(error, "sqlstate", None)
    # Without one, it is Python's: what was stored cannot be decoded.
    return sqlstate is None or str(sqlstate)[:2] in _ABOUT_VALUES


def is_of_a_value(error: asyncpg.PostgresError) -> bool:
    """Whether a stored value may have caused *error*: a data exception, or a damaged page."""
    return str(error.sqlstate)[:2] in ("22", "XX")


def is_of_notifications(error: BaseException) -> bool:
    """Whether the queue of notifications is full: somebody's session listens, and neither reads nor ends."""
    return getattr(error, "server_source_filename", None) == "async.c"


TRANSLATED: Final = (*CONNECTION_ERRORS, asyncpg.TransactionRollbackError)
"""The errors of a statement that a caller is told of as DatabaseUnavailableError: the call can be repeated.

Serialisation errors are among them: where pgqueue sets the isolation, a standby's recovery is their cause.
"""

LOST_SESSIONS: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""Errors after which other sessions are probably lost as well."""


_NOT_DONE: Final = (
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TransactionRollbackError,
)
"""Errors by which the server says that it has not done what it was asked."""


def may_have_happened(error: BaseException) -> bool:
    """Whether what was asked for may be done, although *error* came instead of the answer."""
    if isinstance(error, DatabaseUnavailableError):
        return error.may_have_happened
    if isinstance(error, asyncpg.StatementCompletionUnknownError):
        return True
    # An InterfaceError is raised before anything is sent: "connection is closed".
    return not isinstance(error, (*_NOT_DONE, asyncpg.InterfaceError))


def unavailable(
    error: BaseException, seconds: float, *, may_have_happened: bool = False
) -> DatabaseUnavailableError:
    """Return the error to raise when *error* made the database unavailable, *seconds* after it was asked."""
    if isinstance(error, DatabaseUnavailableError):
        error = error.__cause__ or error
    message = _explain(error, seconds)
    if may_have_happened:
        message += "; if this call changes something, that may have been done"
    return DatabaseUnavailableError(message, may_have_happened=may_have_happened)


def told(error: BaseException) -> str:
    """Return *error* as a message tells of it: its kind, and the first line of what it says.

    Some of the driver's say nothing, and others name what it was just doing instead of what happened.
    """
    if isinstance(error, TimeoutError):
        said = str(error) or "no answer in time"
    elif isinstance(error, asyncpg.InterfaceError) and _CLOSED.search(str(error)):
        return "the connection was lost"
    else:
        said = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _explain(error: BaseException, seconds: float) -> str:
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return (
            f"the database is read-only ({error}): it is a standby, or it was set to read-only; "
            "connect to the primary to change anything"
        )
    if isinstance(error, TimeoutError):
        return (
            f"the database did not answer within {seconds:.1f} s; "
            "check that it is running and that the DSN is correct"
        )
    return (
        f"the database is unavailable, after {seconds:.1f} s: {told(error)}; "
        "check that it is running and that the DSN is correct"
    )


def refused(error: asyncpg.PostgresError, seconds: float) -> PgQueueError:
    """Return the error to raise when a statement of pgqueue's own, for a caller, met *error*."""
    if isinstance(error, _OF_THE_SCHEMA):
        return SchemaError(
            f"the schema is not what this pgqueue needs ({told(error)}); it may have been "
            "dropped, renamed or restored in part: run `pgqueue migrate`, or restore it"
        )
    if isinstance(error, PASSING_ERRORS) or is_of_notifications(error):
        return unavailable(error, seconds, may_have_happened=may_have_happened(error))
    # The first line: details show the row, and with it what is to be redacted.
    return RefusedByDatabaseError(f"the database refused this call: {told(error)}; nothing was changed")
