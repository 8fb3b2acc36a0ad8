"""Migrates the database's schema to the version that this pgqueue needs, and refuses to run on any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from pgqueue.database import settings
from pgqueue.database.objects import locked_by, made_by
from pgqueue.database.script import statements_of
from pgqueue.database.sql import Migration, load_migrations, load_statements
from pgqueue.database.visibility import missing_schema, warn_if_hidden
from pgqueue.errors import MissingPrivilegeError, SchemaError
from pgqueue.package import DISTRIBUTION

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
    steps = [
        settings.begin_script(),
        *_lock_tables(schema, applied),
        f"{sql['make_migration_table'].rstrip()};",
    ]
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
    left to do. Raises SchemaError if the schema is not whole.
    """
    sql = load_statements(schema)
    async with transaction(connection):
        applied, _ = await _read_version(connection, sql["read_version"])
        if applied:
            await _check_whole(connection, schema, applied)
    if not _pending(schema, applied):
        # Not even the lock is taken: the database may be a standby.
        return []
    async with transaction(connection):
        await connection.execute(sql["lock_migrations"], schema)
        await connection.execute(sql["make_migration_table"])
        applied, _ = await _read_version(connection, sql["read_version"])
        missing = _pending(schema, applied)
        for statement in _lock_tables(schema, applied):
            await _take_locks(connection, statement)
        for migration in missing:
            await _apply(connection, migration)
            await connection.execute(
                sql["record_migration"], migration.version, migration.name, migration.works_with
            )
    return missing


def _lock_tables(schema: str, applied: int) -> list[str]:
    """Return the statement that locks what the missing migrations will lock; none: they lock nothing."""
    before = made_by(each for each in load_migrations(schema) if each.version <= applied)
    names = locked_by(_pending(schema, applied), before)
    return [f"lock table {', '.join(f'{schema}.{name}' for name in names)};"] if names else []


async def _take_locks(connection: Connection, statement: str) -> None:
    """Take all locks before anything is changed, and let go of those there are when one is not to be had.

    Workers at work have locked some tables and want others. Whoever takes the same locks one at a time, with
    what was changed in between, ends in a deadlock with them, and the server ends the migration each time.
    """
    for patience in cycle(LOCK_PATIENCE):
        try:
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = {patience * 1000:.0f};{statement}")
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            # Those who wait behind it go on meanwhile.
            await asyncio.sleep(LOCK_PAUSE)
        else:
            await connection.execute("set local lock_timeout = 0")
            return


async def _apply(connection: Connection, migration: Migration) -> None:
    for line, statement in statements_of(migration.sql):
        try:
            await connection.execute(statement)
        except asyncpg.PostgresError as error:
            # Whatever is made of the error, it says where.
            first = statement.partition("\n")[0]
            error.args = (
                f"{error.args[0]} (migration {migration.version:04}_{migration.name}, line {line}: {first})",
                *error.args[1:],
            )
            raise


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """Run a transaction with the settings on which the meaning of statements depends."""
    async with connection.transaction():
        # First, because an isolation cannot be chosen after any query.
        await connection.execute(settings.begin_with({}))
        await connection.execute(settings.set_locally(await settings.read_meaning(connection)))
        yield


async def _check_whole(connection: Connection, schema: str, applied: int) -> None:
    """Raise SchemaError if the schema lacks what its migrations made: a restore may have left it out."""
    if applied > load_migrations(schema)[-1].version:
        # A newer pgqueue may have dropped some of it.
        return
    made = made_by(each for each in load_migrations(schema) if each.version <= applied)
    kinds, names, tables = (list(column) for column in zip(*made, strict=True))
    rows = await connection.fetch(load_statements(schema)["find_missing_objects"], kinds, names, tables)
    if rows:
        missing = [str(made[row["place"] - 1]) for row in rows]
        raise SchemaError(
            f"schema {schema!r} is at version {applied}, but it lacks {listed(missing)}; if it was "
            "restored from a dump, restore it again, as a role that may create all of it, and look for errors"
        )


async def find_missing_rights(connection: Connection, schema: str) -> list[str]:
    """Return what the connection's role lacks to run a worker: 'insert on lease', for example."""
    made = made_by(load_migrations(schema))
    tables = [each.name for each in made if each.kind == "table" and each.name not in NOT_FOR_WORKERS]
    functions = [each.name for each in made if each.kind == "function"]
    rows = await connection.fetch(load_statements(schema)["find_missing_rights"], tables, functions)
    return [row["missing"] for row in rows]


def listed(names: Sequence[str]) -> str:
    """Return *names* as a list for people, which ends after a few."""
    shown = names[:LISTED]
    return ", ".join(shown) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


async def applied_version(connection: Connection, schema: str) -> int:
    """Return the schema's version, or 0 if there is no schema."""
    version, _ = await _read_version(connection, load_statements(schema)["read_version"])
    return version


LOCK_PATIENCE: Final = (0.1, 0.2, 0.4, 0.8, 0.8, 0.8, 1.6)
"""Seconds to wait for each lock, try by try. Only the longest is beyond `deadlock_timeout`: then the server
ends an autovacuum that is in the way, but in a deadlock it may end the statement of a worker or a caller."""
LOCK_PAUSE: Final = 0.05
"""Seconds without a lock, in which those who have waited for it go on."""

NOT_FOR_WORKERS: Final = frozenset({"job_default", "ended_session", "web_secret"})
"""Tables that a worker does not touch; those that hold jobs it reaches by `job`."""
LISTED: Final = 5
"""Names in an error; more are counted."""


class Rights(NamedTuple):
    """What a role may do in the schema. Roles that may do less than a worker have other ways, or none."""

    role: str
    enters: bool
    """Whether there is a schema of that name that it may use."""
    reads_version: bool
    reads: bool
    writes: bool
    """Whether it may write jobs itself."""
    submits: bool
    """Whether it may have the owner's function write jobs."""


async def check_schema(connection: Connection, schema: str) -> Rights:
    """Return what the connection's role may do, if this version of pgqueue can work with the schema.

    A newer schema is accepted if its migrations say that it works with this version. That lets workers of two
    versions run side by side during a rolling deployment. Raises SchemaError, MissingPrivilegeError.
    """
    needed = load_migrations(schema)[-1].version
    sql = load_statements(schema)
    row = await connection.fetchrow(sql["read_rights"])
    assert row is not None
    rights = Rights(*row)
    applied, works_with = 0, 0
    if rights.enters:
        if not (rights.reads_version or rights.submits):
            raise MissingPrivilegeError(
                f"role {rights.role!r} may not read or enqueue anything in schema {schema!r}"
            )
        statement = sql["read_version"] if rights.reads_version else sql["read_version_by_function"]
        applied, works_with = await _read_version(connection, statement, since=needed)
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
            f"(made for {needed}); run `pip install --upgrade {DISTRIBUTION}`"
        )
    await warn_if_hidden(connection, schema)
    return rights


async def _read_version(connection: Connection, statement: str, *, since: int = 0) -> tuple[int, int]:
    try:
        row = await connection.fetchrow(statement, since)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
        return 0, 0
    assert row is not None
    return row["version"], row["works_with"]


def _pending(schema: str, applied: int) -> list[Migration]:
    return [migration for migration in load_migrations(schema) if migration.version > applied]
