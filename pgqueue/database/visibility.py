"""Tells a schema that is missing from one that this role cannot see, or only in part."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from pgqueue.database.sql import load_statements
from pgqueue.errors import MissingPrivilegeError, SchemaError

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

logger = logging.getLogger("pgqueue.database")


async def warn_if_hidden(connection: Connection, schema: str) -> None:
    """Log a warning if row-level security may hide rows from this role."""
    row = await connection.fetchrow(load_statements(schema)["find_hidden"])
    if row is not None and row["hidden"]:
        logger.warning(
            "row-level security may hide rows of schema %r from this role, in %s; jobs that it hides are not "
            "run and not shown; let the role bypass it (alter role ... bypassrls)",
            schema,
            ", ".join(row["hidden"]),
        )


async def may_hide_jobs(connection: Connection, schema: str) -> bool:
    """Whether row-level security may hide jobs from this role: then one that is not found may be there."""
    row = await connection.fetchrow(load_statements(schema)["find_hidden"])
    return row is not None and "job" in row["hidden"]


def hidden_job(job_id: UUID) -> MissingPrivilegeError:
    """Return the error for a job that was not found where row-level security may hide jobs."""
    return MissingPrivilegeError(
        f"job {job_id} was not found, but row-level security may hide it from this role",
        now="let the role bypass it (alter role ... bypassrls)",
    )


async def missing_schema(connection: Connection, schema: str) -> SchemaError:
    """Return the error for a schema of which no version can be read."""
    try:
        row = await connection.fetchrow(load_statements(schema)["find_hidden"])
    except asyncpg.PostgresError:
        row = None
    if row is not None and row["is_there"] and not row["is_usable"]:
        return SchemaError(
            f"this role may not use schema {schema!r}, which is there; run "
            f"`grant usage on schema {schema} to ...` as its owner, or the SQL that `pgqueue roles` prints"
        )
    if row is not None and "migration" in row["hidden"]:
        return SchemaError(
            f"row-level security hides the rows of schema {schema!r} from this role, those of table "
            "migration among them; let the role bypass it (alter role ... bypassrls)"
        )
    return SchemaError(f"the database has no pgqueue schema {schema!r}; run `pgqueue migrate`")
