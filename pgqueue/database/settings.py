"""The session settings on which the meaning and the plans of pgqueue's statements depend.

A database or a role may have any of them set to something else, for an application's sake. pgqueue's own
connections set them when they are opened; behind a pooler, and for migrations, each transaction does.

Not set are those that say what may be done here and not what a statement means: `role`,
`default_transaction_read_only`, `synchronous_commit`, tablespaces.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import asyncpg

from pgqueue.database.sql import load_statements

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.database")

_MEANING: Final = {
    # Operators and functions of other schemas are never meant, even if they match better.
    "search_path": "pg_catalog, pg_temp",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "standard_conforming_strings": "on",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "exit_on_error": "off",
    "default_table_access_method": "heap",
    # Errors that only the strictest checks see are not errors of a user's program.
    "plpgsql.extra_errors": "none",
    # The client has timeouts of its own, and knows which statement may take long.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}

_OPTIONAL: Final = {
    "transaction_timeout": "0",
    "restrict_nonsystem_relation_kind": "",
    # With its most, and much work_mem, the server fills that memory for each recursion over two rows, and
    # heeds no cancellation meanwhile.
    "recursive_worktable_factor": "10",
}
"""Settings that not every server has: an unknown one would keep a connection from being opened."""

_TRIGGERS: Final = "session_replication_role"
"""Not every role may set it, so it is set only where somebody has switched triggers off."""

_ISOLATION: Final = "read committed"

# The hot statements reach their tables by index, whatever the statistics say. The planner only chooses how to
# join sets of the size of a batch, and a hash join is never far from the best choice there.
PLANNER: Final = {
    "enable_seqscan": "off",
    "enable_nestloop": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "on",
    "enable_indexscan": "on",
    "enable_partition_pruning": "on",
    "jit": "off",
}


async def read_meaning(connection: Connection) -> dict[str, str]:
    """Return the settings that the server has, and on which the meaning of statements depends."""
    sql = load_statements("pgqueue")
    rows = await connection.fetch(sql["find_settings"], [*_OPTIONAL, _TRIGGERS])
    found = {row["name"]: row["setting"] for row in rows}
    fires = await _trigger_settings(connection) if found.pop(_TRIGGERS) == "replica" else {}
    return {**_MEANING, **{name: _OPTIONAL[name] for name in found}, **fires}


async def _trigger_settings(connection: Connection) -> dict[str, str]:
    """Return what has triggers fire in a session in which they would not, if its role may set that."""
    fires = {_TRIGGERS: "origin"}
    try:
        async with connection.transaction():
            await connection.execute(set_locally(fires))
    except asyncpg.InsufficientPrivilegeError:
        logger.warning(
            "triggers do not fire for this role (session_replication_role is 'replica'): nothing becomes a "
            "dead letter and no job expires; run `alter role ... reset session_replication_role`"
        )
        return {}
    return fires


def of_session(settings: Mapping[str, str]) -> dict[str, str]:
    """Return *settings* as a session has them from its start, with the isolation of its transactions."""
    return {**settings, "default_transaction_isolation": _ISOLATION}


def set_locally(settings: Mapping[str, str]) -> str:
    """Return the statements that set *settings* until the transaction ends."""
    return ";".join(f"set local {name} to {_quoted(value)}" for name, value in settings.items())


def begin_with(settings: Mapping[str, str]) -> str:
    """Return the statements for the beginning of a transaction of pgqueue's own."""
    return f"set transaction isolation level {_ISOLATION};{set_locally(settings)}"


def begin_script() -> str:
    """Return `begin` and such statements for a script of psql: with the settings that every server has."""
    return f"begin;\n{begin_with(_MEANING)};".replace(";", ";\n").rstrip()


def _quoted(value: str) -> str:
    # A list of names, as in search_path, is not a string.
    return value if "," in value else f"'{value}'"
