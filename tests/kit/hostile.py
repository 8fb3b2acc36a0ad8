"""Plants hostile values in every column of the schema, one row each, beside healthy jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from conftest import Connection

TIMES = (
    "'infinity'",
    "'-infinity'",
    "'20000-01-01'",
    "'294276-12-31'",
    "'4713-01-01 BC'",
    "'0044-03-15 BC'",
    "'1000-01-01'",
)
DOCUMENTS = (
    """'[1]'""",
    """'7'""",
    """'null'""",
    """'"text"'""",
    """'{"max_losses": "y", "timeout": "x", "max_retries": null}'""",
    """'{"max_losses": 3000000000, "max_retries": 1e400}'""",
    """'{"max_losses": {"a": [1]}}'""",
    r"""'{"max_losses": "\u0000", "x": "\u0000", "type": "\u0000", "message": "\u0000"}'""",
    r"""'{"x": "\ud800", "type": "\ud800", "message": "\ud800"}'""",
    """'{"*": {"a": 1}}'""",
    """'{"*": 1, "type": 7, "message": [1]}'""",
    """('{"x": ' || repeat('[', 3000) || repeat(']', 3000) || '}')::json""",
    """('{"x": ' || repeat('9', 5000) || '}')::json""",
    """'{"task": 7, "queue": [1], "failed_before": "never", "failed_after": "20000-01-01"}'""",
)
VALUES: Mapping[str, Sequence[str]] = {
    "timestamp with time zone": TIMES,
    "smallint": ("32767", "-32768"),
    "integer": ("2147483647", "-2147483648", "-1"),
    "bigint": ("9223372036854775807", "-9223372036854775808", "-1"),
    "double precision": ("'NaN'", "'infinity'", "'-infinity'", "1e308", "1e-320", "-1"),
    "boolean": ("true", "false"),
    "uuid": ("gen_random_uuid()", "'00000000-0000-0000-0000-000000000000'", "'" + "f" * 32 + "'"),
    "text": ("''", "repeat('x', 30000)", "'<b>' || chr(27) || chr(8238) || chr(10)", "'{}'"),
    "json": DOCUMENTS,
    "bytea": ("''",),
    "ARRAY": ("'{NULL}'", "'{}'", "'{{NULL,NULL},{NULL,NULL}}'"),
    "USER-DEFINED": ("'pending'", "'running'", "'succeeded'", "'failed'", "'cancelled'", "'expired'"),
}
"""What a column of each type may hold that no Python program writes."""


JOB = {
    "id": "ID",
    "lane": "pgqueue.lane_of('default', 0::smallint)",
    "task": "'work'",
    "arguments": "'{}'",
}
PLACE = {"job_id": "ID", "lane": "pgqueue.lane_of('default', 0::smallint)"}
RUNNING = {
    **PLACE,
    "lease_id": "'LEASE'",
    "ready_at": "now()",
    "started_at": "now()",
    "position": "1",
    "attempt": "1",
    "losses": "0",
}
STAT = dict.fromkeys(
    ("enqueued", "claimed", "succeeded", "failed", "cancelled", "expired", "retried", "lost"), "1"
)
ROWS: Mapping[str, Mapping[str, str]] = {
    "job": JOB,
    "ready": PLACE,
    "scheduled": {**PLACE, "scheduled_at": "now()"},
    "blocked": {**PLACE, "waits_for": "gen_random_uuid()"},
    "running": RUNNING,
    "attempt": {"job_id": "ID", "attempt": "1", "reason": "'exception'"},
    "lease": {
        "id": "gen_random_uuid()",
        "worker": "'hostile'",
        "queues": "'{default}'",
        "expires_at": "now() + interval '1 second'",
    },
    "cancel_request": {"job_id": "ID", "lease_id": "gen_random_uuid()"},
    "idempotency_key": {
        "id": "ID",
        "scope": "'global'",
        "key": "ID::text",
        "job_id": "ID",
        "span": "'terminal'",
        "expires_at": "now()",
    },
    "inbox": {
        "id": "ID",
        "source": "'s'",
        "event_id": "ID::text",
        "marker": "ID",
        "expires_at": "now()",
    },
    "step": {"job_id": "ID", "name": "'one'", "result": "'1'"},
    "progress": {"job_id": "ID", "value": """'{"current": 1, "total": 2, "meta": null}'"""},
    "action": {"job_id": "ID", "action": "'redriven'"},
    "dead_letter": {
        "job_id": "ID",
        "failed_at": "now()",
        "task": "'work'",
        "queue": "'default'",
        "reason": "'exception'",
        "fingerprint": "'0'",
        "attempt": "1",
    },
    "mass_redrive": {
        "id": "gen_random_uuid()",
        "filter": """'{"task": "nothing"}'""",
        "rate": "10",
        "reset_attempts": "true",
        "total": "1",
    },
    "setting": {"kind": "'task'", "name": "ID::text"},
    "expiry": {"job_id": "ID", "check_at": "now()"},
    "chore": {"name": "'a chore ' || ID", "holder": "gen_random_uuid()", "until_at": "now()"},
    "stat": {"id": "gen_random_uuid()", "seconds": "10", "queue": "'default'", **STAT},
}
"""What a row of a table looks like, as SQL by column, where plain values would not do."""
PLAIN: Mapping[str, str] = {
    "timestamp with time zone": "now()",
    "smallint": "1",
    "integer": "1",
    "bigint": "1",
    "double precision": "1",
    "boolean": "true",
    "uuid": "ID",
    "text": "ID::text",
    "json": "'{}'",
    "bytea": "''",
    "ARRAY": "'{}'",
    "USER-DEFINED": "'failed'",
}
"""A plain value of each type."""
ENDED = {"status": "'failed'", "completed_at": "now()", "reason": "'exception'", "attempt": "1"}
PLACED_IN = {place: place for place in ("ready", "scheduled", "blocked", "running")}
STANDS: Mapping[str, Sequence[tuple[str, Mapping[str, str]]]] = {
    **{place: [(place, {})] for place in PLACED_IN},
    "prefetched": [("running", {"started_at": "null"})],
    "two places": [("ready", {}), ("scheduled", {})],
    "nowhere": [],
    "ended": [("dead_letter", {})],
}
"""The rows, by the place where a job stands, that say so."""
OWN_RULES = frozenset({"migration", "lane"})
"""Tables whose rows are not about one job: what is wrong there is wrong for all."""


@dataclass(frozen=True)
class Plant:
    """One hostile value in one column of one table; *place*: where its job stands."""

    table: str
    row: Mapping[str, str]
    """A row of the table that is as it should be."""
    column: str
    value: str
    place: str

    def __str__(self) -> str:
        return f"{self.table}.{self.column} = {self.value[:40]} ({self.place})"


async def plants(db: Connection) -> list[Plant]:
    """Return all that can be planted, for the tables and columns that there are."""
    columns = await db.fetch(
        """
        select table_name, column_name, data_type,
               is_nullable = 'NO' and column_default is null and is_identity = 'NO' as is_needed
        from information_schema.columns
        where table_schema = 'pgqueue' and table_name !~ '^job_' and table_name <> 'jobs'
        order by table_name, ordinal_position
        """
    )
    rows: dict[str, dict[str, str]] = {}
    for row in columns:
        needed = {row["column_name"]: PLAIN[row["data_type"]]} if row["is_needed"] else {}
        rows.setdefault(row["table_name"], {}).update(needed)
    return [
        Plant(row["table_name"], {**rows[row["table_name"]], **ROWS.get(row["table_name"], {})}, *each)
        for row in columns
        if row["table_name"] not in OWN_RULES
        for each in _of_column(row["table_name"], row["column_name"], row["data_type"])
    ]


def _of_column(table: str, column: str, data_type: str) -> Iterator[tuple[str, str, str]]:
    # A type that is new has to be thought of here: a KeyError says so.
    for value in VALUES[data_type]:
        for place in STANDS if table == "job" else ("ready",):
            yield column, value, place


async def plant(db: Connection, what: Plant, lease: str) -> bool:
    """Plant it, with a job to it; return False if the database refuses it, which is as well."""
    hostile = {what.column: what.value}
    job: dict[str, str] = {**JOB, **(ENDED if what.place == "ended" else {})}
    if what.table == "job":
        job |= hostile
    rows: list[tuple[str, Mapping[str, str]]] = [("job", job)]
    if what.table in PLACED_IN.values():
        rows.append((what.table, {**what.row, **hostile}))
    else:
        rows += [(table, {**ROWS[table], **more}) for table, more in STANDS[what.place]]
        if what.table != "job":
            rows.append((what.table, {**what.row, **hostile}))
    job_id = await db.fetchval("select pgqueue.uuid7()")
    words = {"ID": f"'{job_id}'::uuid", "LEASE": lease}
    if what.table == "job" and what.column == "id":
        words["ID"] = f"'{await db.fetchval(f'select ({what.value})::uuid')}'::uuid"
    try:
        async with db.transaction():
            for table, row in rows:
                values = ", ".join(row.values())
                for word, meaning in words.items():
                    values = re.sub(rf"\b{word}\b", meaning, values)
                into = f"pgqueue.{table} ({', '.join(row)})"
                await db.execute(f"insert into {into} overriding system value values ({values})")
    except asyncpg.PostgresError:
        return False
    return True
