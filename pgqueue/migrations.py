"""Bringing the database's schema to what this version needs, and refusing to run on any other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from pgqueue.errors import SchemaError
from pgqueue.statements import Migration, load_migrations

if TYPE_CHECKING:
    from pgqueue.database import Connection


def pending_sql(schema: str, applied: int) -> str:
    """Return the SQL that brings a schema at version *applied* (0: none) up to date."""
    return "\n".join(
        f"-- migration {migration.version:04} {migration.name}\n{migration.sql}"
        for migration in _pending(schema, applied)
    )


async def migrate(connection: Connection, schema: str) -> list[Migration]:
    """Apply the migrations that are missing, and return them.

    Any number of processes may call this at once: one migrates, the others wait for it and find
    nothing left to do. All of it is one transaction.
    """
    async with connection.transaction():
        # Held to the commit. The number is any: what counts is that it is the same for this schema.
        await connection.execute("select pg_advisory_xact_lock(hashtext('pgqueue migrate ' || $1))", schema)
        await connection.execute(f"create schema if not exists {schema}")
        await connection.execute(
            f"create table if not exists {schema}.migration (version integer primary key, name text not null, "
            "works_with integer not null, applied_at timestamptz not null default now())"
        )
        missing = _pending(schema, await _applied(connection, schema))
        for migration in missing:
            await connection.execute(migration.sql)
            await connection.execute(
                f"insert into {schema}.migration (version, name, works_with) values ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.works_with,
            )
    return missing


async def applied_version(connection: Connection, schema: str) -> int:
    """Return the schema's version; 0: there is none."""
    try:
        return await _applied(connection, schema)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return 0


async def check_schema(connection: Connection, schema: str) -> None:
    """Raise SchemaError unless this version can work with the database's schema.

    A newer schema is fine if its migrations say that it works with this version: that is what lets
    workers of two versions run side by side while a deployment rolls.
    """
    needed = load_migrations(schema)[-1].version
    applied = await applied_version(connection, schema)
    if applied == 0:
        raise SchemaError(f"the database has no schema {schema!r} of pgqueue; run `pgqueue migrate`")
    if applied < needed:
        raise SchemaError(
            f"schema {schema!r} is at version {applied} and this pgqueue needs {needed}; run `pgqueue migrate`"
        )
    if applied > needed:
        oldest = await connection.fetchval(
            f"select max(works_with) from {schema}.migration where version > $1", needed
        )
        if oldest > needed:
            raise SchemaError(
                f"schema {schema!r} is at version {applied}, which is newer than this pgqueue, made for "
                f"{needed}, can work with; run `pip install --upgrade pgqueue`"
            )


async def _applied(connection: Connection, schema: str) -> int:
    return await connection.fetchval(f"select coalesce(max(version), 0) from {schema}.migration") or 0


def _pending(schema: str, applied: int) -> list[Migration]:
    return [migration for migration in load_migrations(schema) if migration.version > applied]
