"""Plants hostile values in every column of the schema, one row each, beside healthy jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
from hypothesis import strategies as st

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
    "interval": ("'178000000 years'", "'-178000000 years'"),
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
    "event": {"job_id": "ID", "name": "'one'", "payload": "'1'"},
    "step": {
        "job_id": "ID",
        "name": "'one'",
        "result": "'1'",
        "number": "1",
        "kind": "'step'",
        "call": "1",
    },
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
    "bulk": {"id": "gen_random_uuid()", "verb": "'cancel'", "filter": """'{"task": "nothing"}'"""},
    "mass_redrive": {
        "id": "gen_random_uuid()",
        "filter": """'{"task": "nothing"}'""",
        "rate": "10",
        "reset_attempts": "true",
        "total": "1",
    },
    "setting": {"kind": "'task'", "name": "ID::text"},
    "expiry": {"job_id": "ID", "check_at": "now()"},
    "schedule": {
        "name": "ID::text",
        "task": "'work'",
        "arguments": "'{}'",
        "template": """'{"queue": "default", "priority": 0}'""",
        "every": "3600",
        "next_at": "now()",
        "due_at": "now()",
    },
    "tick": {"schedule": "ID::text", "at": "now()", "outcome": "'enqueued'"},
    "workflow": {"id": "ID", "root": "ID"},
    "workflow_tally": {"status": "'failed'"},
    "barrier": {"id": "ID", "workflow_id": "ID", "is_join": "false", "total": "1", "open": "1"},
    "edge": {"upstream": "ID", "downstream": "ID", "position": "0", "direct": "false"},
    "note": {"node_id": "ID"},
    "callback": {
        "node_id": "ID",
        "number": "0",
        "on_end": "'complete'",
        "takes_inputs": "true",
        "queue": "'default'",
        "priority": "0",
        "task": "'work'",
        "arguments": "'{}'",
    },
    "limit_rule": {"name": "ID::text"},
    "gate": {"id": "ID", "rule": "'tenant'", "key": "''"},
    "gate_state": {
        "gate": "ID",
        "number": "1",
        "in_use": "0",
        "tokens": "1",
        "at": "now()",
        "let": "'{}'",
        "lanes": "'{}'",
        "lows": "'{}'",
    },
    "limiter": {"id": "ID", "kind": "'slots'", "name": "ID::text"},
    "limiter_state": {"limiter": "ID", "number": "1", "low": "0", "at": "now()", "until": "now()"},
    "limiter_hold": {
        "id": "ID",
        "limiter": "gen_random_uuid()",
        "turn": "1",
        "job_id": "ID",
        "lease_id": "gen_random_uuid()",
        "claimed_at": "now()",
    },
    "window_weight": {"gate": "ID", "rule": "'fair/default'", "key": "''", "weight": "1"},
    "window_lane": {"lane": "1", "gate": "ID"},
    "gate_pass": {"gate": "gen_random_uuid()", "job_id": "ID"},
    "stopped": {
        "job_id": "ID",
        "gate": "gen_random_uuid()",
        "rule": "'order/a'",
        "key": "''",
        "turn": "1",
        "halts": "true",
    },
    "chore": {"name": "'a chore ' || ID", "holder": "gen_random_uuid()", "until_at": "now()"},
    "lane": {"queue": "ID::text", "priority": "0"},
    "stat": {"id": "gen_random_uuid()", "seconds": "10", "queue": "'default'", **STAT},
}
"""What a row of a table looks like, as SQL by column, where plain values would not do."""
PLAIN: Mapping[str, str] = {
    "timestamp with time zone": "now()",
    "smallint": "1",
    "integer": "1",
    "bigint": "1",
    "double precision": "1",
    "interval": "'1 second'",
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
OWN_RULES = frozenset({"migration"})
"""Tables whose rows are not about one job, or one lane: what is wrong there is wrong for all."""

OF_ONE_ROW = frozenset({"web_secret"})
"""Tables that never have a second row."""


@dataclass(frozen=True, repr=False)
class Table:
    """One table, as the catalog knows it."""

    name: str
    columns: Mapping[str, str]
    """The type of each column."""
    row: Mapping[str, str]
    """A row that is as it should be."""

    def __repr__(self) -> str:
        return self.name

    @property
    def places(self) -> Sequence[str]:
        """Where the job may stand that a row is about."""
        return list(STANDS) if self.name == "job" else ["ready"]


@dataclass(frozen=True, repr=False)
class Plant:
    """A row with hostile values in some of its columns; *place*: where its job stands."""

    table: Table
    hostile: Mapping[str, str]
    place: str

    def __repr__(self) -> str:
        values = ", ".join(f"{column} = {value[:20]}" for column, value in self.hostile.items())
        return f"{self.table.name}: {values} ({self.place})"


async def tables(db: Connection) -> list[Table]:
    """Return the tables that there are, those of later migrations too."""
    columns = await db.fetch(
        """
        select table_name, column_name, data_type,
               is_nullable = 'NO' and column_default is null and is_identity = 'NO' as is_needed
        from information_schema.columns
        where table_schema = 'pgqueue' and table_name !~ '^job_' and table_name <> 'jobs'
        order by table_name, ordinal_position
        """
    )
    types: dict[str, dict[str, str]] = {}
    needed: dict[str, dict[str, str]] = {}
    for row in columns:
        name, column, kind = row["table_name"], row["column_name"], row["data_type"]
        types.setdefault(name, {})[column] = kind
        needed.setdefault(name, {}).update({column: PLAIN[kind]} if row["is_needed"] else {})
    return [
        Table(name, kinds, {**needed[name], **ROWS.get(name, {})})
        for name, kinds in types.items()
        if name not in OWN_RULES
    ]


def single_plants(of: Sequence[Table]) -> Iterator[Plant]:
    """Yield all rows with one hostile value."""
    for table in of:
        for column, kind in table.columns.items():
            # A type that is new has to be thought of here: a KeyError says so.
            for value in VALUES[kind]:
                for place in table.places:
                    yield Plant(table, {column: value}, place)


def several_plants(of: Sequence[Table]) -> st.SearchStrategy[list[Plant]]:
    """Rows with several hostile values each, several of them."""

    def rows(table: Table) -> st.SearchStrategy[Plant]:
        columns = st.lists(st.sampled_from(sorted(table.columns)), min_size=1, max_size=4, unique=True)
        hostile = columns.flatmap(
            lambda names: st.fixed_dictionaries(
                {name: st.sampled_from(VALUES[table.columns[name]]) for name in names}
            )
        )
        return st.builds(Plant, st.just(table), hostile, st.sampled_from(table.places))

    return st.lists(st.sampled_from(of).flatmap(rows), min_size=50, max_size=100)


async def plant(db: Connection, what: Plant, lease: str) -> bool:
    """Plant it, with a job to it; return False if the database refuses it, which is as well."""
    name, row = what.table.name, {**what.table.row, **what.hostile}
    job: dict[str, str] = {**JOB, **(ENDED if what.place == "ended" else {})}
    if name == "job":
        job |= what.hostile
    rows: list[tuple[str, Mapping[str, str]]] = [("job", job)]
    if name in PLACED_IN.values():
        rows.append((name, row))
    else:
        rows += [(table, {**ROWS[table], **more}) for table, more in STANDS[what.place]]
        if name != "job":
            rows.append((name, row))
    job_id = await db.fetchval("select pgqueue.uuid7()")
    words = {"ID": f"'{job_id}'::uuid", "LEASE": lease}
    if name == "job" and "id" in what.hostile:
        given = await db.fetchval("select ({})::uuid".format(what.hostile["id"]))
        words["ID"] = f"'{given}'::uuid"
    try:
        async with db.transaction():
            if name in OF_ONE_ROW:
                await db.execute(f"delete from pgqueue.{name}")
            for table, columns in rows:
                values = ", ".join(columns.values())
                for word, meaning in words.items():
                    values = re.sub(rf"\b{word}\b", meaning, values)
                into = f"pgqueue.{table} ({', '.join(columns)})"
                await db.execute(f"insert into {into} overriding system value values ({values})")
    except asyncpg.PostgresError:
        return False
    return True


ADD_COLUMNS = """
do $$
declare
    name text;
begin
    for name in select relname from pg_class
                where relnamespace = 'pgqueue'::regnamespace and relkind in ('r', 'p') and not relispartition
    loop
        execute format('alter table pgqueue.%I add of_ours integer generated always as (7) stored, '
                       'add also_ours text not null default %L', name, 'ours');
    end loop;
end
$$
"""
"""Adds to every table what users add for themselves: a generated column, and one with a default."""
