"""What any function takes from any role is stored within bounds, or refused as a fault of the caller."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest
from kit.roles import KINDS, roles_of

from pgqueue import PgQueue
from pgqueue.app import MAX_PAYLOAD

if TYPE_CHECKING:
    from conftest import Connection

LONG: Final = "x" * 100_001
FUNCTIONS: Final = """
    select proname::text as name, proargnames[1:pronargs]::text[] as names, pronargdefaults as defaults,
           array(select format_type(type, null)::text
                 from unnest(proargtypes) with ordinality as given (type, place) order by place) as types
    from pg_proc
    where pronamespace = 'pgqueue'::regnamespace and prorettype <> 'trigger'::regtype
      and has_function_privilege(oid, 'execute')
    order by 1
"""
COLUMNS: Final = """
    select relname::text as table, attname::text as column
    from pg_class join pg_attribute on attrelid = pg_class.oid
    where relnamespace = 'pgqueue'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped
      and atttypid in ('text'::regtype, 'text[]'::regtype)
"""
IDS: Final = (
    UUID(int=0),
    UUID(int=2**128 - 1),
    UUID("ffffffff-ffff-7fff-bfff-ffffffffffff"),
    UUID("00000000-0000-7000-8000-000000000000"),
)
CALL: Final = {"task": "work", "queue": "default", "priority": 0, "arguments": "{}"}
PARTS: Final[dict[str, Any]] = {
    "task": LONG,
    "queue": LONG,
    "key": LONG,
    "tags": json.dumps([LONG]),
    "headers": json.dumps({"name": LONG}),
    "options": json.dumps({"timeout": LONG}),
    "hold": {"key": LONG, "scope": "global", "span": "forever"},
}
REFUSED: Final = ("22", "23", "42501", "0A", "P0", "2F", "54", "55")
"""What says that the call is at fault: its values, a constraint, what the role may."""


def plain_value(kind: str, job: UUID) -> Any:
    """Return what any function can be called with."""
    values: dict[str, Any] = {
        "uuid": job, "uuid[]": [job], "text": "x", "text[]": ["x"], "json": "{}", "boolean": True,
        "integer": 1, "smallint": 1, "bigint": 1, "double precision": 1.0,
    }  # fmt: skip
    return values.get(kind)


def hostile_values(kind: str, job: UUID) -> list[Any]:
    """Return what a parameter may be given by whoever means harm."""
    calls = [json.dumps([{**CALL, "job_id": str(job), name: value}]) for name, value in PARTS.items()]
    calls += [json.dumps([{**CALL, "job_id": str(each)}]) for each in IDS]
    values: dict[str, list[Any]] = {
        "text": [LONG, ""],
        "text[]": [[LONG], ["x"] * 101, [""], [None]],
        "json": [json.dumps({"task": LONG}), json.dumps({LONG: 1}), "[]", "7", *calls],
        "uuid": [*IDS, uuid4()],
        "uuid[]": [list(IDS), []],
    }
    return values.get(kind, [])


@pytest.mark.contract("W9", "W2")
@pytest.mark.parametrize("kind", KINDS)
async def test_no_function_stores_a_text_without_bounds(
    pgq: PgQueue, db: Connection, superuser_dsn: str, kind: str
) -> None:
    job = await pgq.enqueue_by_name("work")
    columns = [(row["table"], row["column"]) for row in await db.fetch(COLUMNS)]
    longest = "select greatest({})".format(
        ", ".join(f"(select max(length({column}::text)) from pgqueue.{table})" for table, column in columns)
    )
    tried = 0
    async with roles_of(superuser_dsn) as roles:
        connection = await asyncpg.connect(roles.dsn_of(kind))
        try:
            for function in await connection.fetch(FUNCTIONS):
                names, types = function["names"] or [], function["types"]
                required = len(types) - function["defaults"]
                for place, type_of in enumerate(types):
                    for value in hostile_values(type_of, job.id):
                        given = [
                            (name, each, value if at == place else plain_value(each, job.id))
                            for at, (name, each) in enumerate(zip(names, types, strict=True))
                            if at == place or at < required
                        ]
                        tried += 1
                        await _call(connection, db, function["name"], given, longest)
        finally:
            await connection.close()
    assert tried > 10
    # Nothing that was let through harms the lists.
    await pgq.check()
    await pgq.jobs()
    await pgq.dead_letters()


async def _call(
    connection: Connection, db: Connection, function: str, given: list[tuple[str, str, Any]], longest: str
) -> None:
    """Call a function; what it stores has bounds, or it says that the caller is at fault."""
    arguments = ", ".join(f"{name} => ${at}::{kind}" for at, (name, kind, _) in enumerate(given, 1))
    shown = f"{function}({', '.join(f'{name}={str(value)[:60]}' for name, _, value in given)})"
    try:
        # Without its columns: the driver cannot read each kind of row.
        sql = f"select from pgqueue.{function}({arguments})"
        await connection.execute(sql, *(value for _, _, value in given))
    except asyncpg.PostgresError as error:
        if not str(error.sqlstate).startswith(REFUSED):
            pytest.fail(f"{shown}: {error.sqlstate} {error}")
        return
    assert (await db.fetchval(longest) or 0) <= 2000, shown


@pytest.mark.contract("W9")
async def test_arguments_are_as_large_by_sql_as_by_python(pgq: PgQueue, db: Connection) -> None:
    most = json.dumps(["x" * (MAX_PAYLOAD - 4)])
    await db.execute("select pgqueue.enqueue('work', $1)", most)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="have 1048577 bytes: give at most 1048576"):
        await db.execute("select pgqueue.enqueue('work', $1)", most.replace("x", "xx", 1))
    assert await db.fetchval("select count(*) from pgqueue.job") == 1
