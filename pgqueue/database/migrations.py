"""Migrates the database's schema to the version that this pgqueue needs, and refuses to run on any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from pgqueue.database import settings
from pgqueue.database.sql import Migration, load_migrations, load_statements
from pgqueue.database.visibility import missing_schema, warn_if_hidden
from pgqueue.errors import SchemaError

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection


def pending_sql(schema: str, applied: int) -> str:
    """Return the SQL that brings a schema at version *applied* (0: no schema) up to date; empty if it is.

    It is one script for psql, and has the same effect as `migrate`.
    """
    missing = _pending(schema, applied)
    if not missing:
        return ""
    sql = load_statements(schema)
    steps = [settings.begin_script(), f"{sql['make_migration_table'].rstrip()};"]
    for migration in missing:
        values = (str(migration.version), f"'{migration.name}'", str(migration.works_with))
        record = sql["record_migration"].rstrip()
        for number, value in enumerate(values, start=1):
            # Only in the statement: the header names the parameters, and stays as it is.
            head, _, statement = record.rpartition("\n")
            record = f"{head}\n{statement.replace(f'${number}', value)}"
        steps.append(f"{migration.sql.rstrip()}\n{record};")
    return "\n\n".join([*steps, "commit;\n"])


async def migrate(connection: Connection, schema: str) -> list[Migration]:
    """Apply the missing migrations in one transaction, and return them.

    Any number of processes may call this at once: one migrates, and the others wait for it and find nothing
    left to do.
    """
    sql = load_statements(schema)
    async with transaction(connection):
        applied, _ = await _read_version(connection, schema)
    if not _pending(schema, applied):
        # Not even the lock is taken: the database may be a standby.
        return []
    async with transaction(connection):
        await connection.execute(sql["lock_migrations"], schema)
        await connection.execute(sql["make_migration_table"])
        applied, _ = await _read_version(connection, schema)
        missing = _pending(schema, applied)
        for migration in missing:
            await connection.execute(migration.sql)
            await connection.execute(
                sql["record_migration"], migration.version, migration.name, migration.works_with
            )
    return missing


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """Run a transaction with the settings on which the meaning of statements depends."""
    async with connection.transaction():
        # First, because an isolation cannot be chosen after any query.
        await connection.execute(settings.begin_with({}))
        await connection.execute(settings.set_locally(await settings.read_meaning(connection)))
        yield


async def applied_version(connection: Connection, schema: str) -> int:
    """Return the schema's version, or 0 if there is no schema."""
    version, _ = await _read_version(connection, schema)
    return version


async def check_schema(connection: Connection, schema: str) -> None:
    """Raise SchemaError unless this version of pgqueue can work with the database's schema.

    A newer schema is accepted if its migrations say that it works with this version. That lets workers of two
    versions run side by side during a rolling deployment.
    """
    needed = load_migrations(schema)[-1].version
    applied, works_with = await _read_version(connection, schema, since=needed)
    if applied == 0:
        raise await missing_schema(connection, schema)
    if applied < needed:
        raise SchemaError(
            f"schema {schema!r} is at version {applied}, but this pgqueue needs {needed}; "
            "run `pgqueue migrate`"
        )
    if works_with > needed:
        raise SchemaError(
            f"schema {schema!r} is at version {applied}, which is too new for this pgqueue "
            f"(made for {needed}); run `pip install --upgrade pgqueue`"
        )
    await warn_if_hidden(connection, schema)


async def _read_version(connection: Connection, schema: str, *, since: int = 0) -> tuple[int, int]:
    try:
        row = await connection.fetchrow(load_statements(schema)["read_version"], since)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
        return 0, 0
    assert row is not None
    return row["version"], row["works_with"]


def _pending(schema: str, applied: int) -> list[Migration]:
    return [migration for migration in load_migrations(schema) if migration.version > applied]
