"""Copies of all that is stored: to have it again as it was, and to compare it with what it became."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import Connection

COLUMNS = """
select relation.relname as name,
       array_agg(quote_ident(attname) order by attnum) as columns,
       array_agg(quote_ident(attname) order by attnum) filter (
           where atttypid = any(array['timestamptz', 'int8', 'float8', 'int8[]']::regtype[])) as passing
from pg_class as relation join pg_attribute on attrelid = relation.oid and attnum > 0 and not attisdropped
where relation.relnamespace = 'pgqueue'::regnamespace and relation.relkind in ('r', 'p')
  and not relation.relispartition and relation.relname <> all($1)
group by relation.relname order by relation.relname
"""
NOT_COPIED = ("migration",)
NOT_COMPARED = ("migration", "chore", "stat", "gate_state", "limiter_state", "lane", "web_secret")
"""Also what is made for good with the first that needs it: a lane, the secret of the pages."""
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-9.]+\+00:00")

Stored = Counter[str]


class Copy:
    """All tables as they were once. Over a superuser's connection, so that no trigger fires."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: set[str] = set()

    async def take(self) -> None:
        """Copy what is stored."""
        rows = await self._connection.fetch(COLUMNS, NOT_COPIED)
        await self._connection.execute(
            "set session_replication_role = replica; drop schema if exists kept cascade; create schema kept; "
            + "; ".join(f"create table kept.{row['name']} as table pgqueue.{row['name']}" for row in rows)
        )
        self._again = "; ".join(
            f"delete from pgqueue.{row['name']}; insert into pgqueue.{row['name']} overriding system value "
            f"select * from kept.{row['name']}"
            for row in rows
        )
        self._rows = await self._connection.fetch(COLUMNS, NOT_COMPARED)
        self._known = set()
        self._known = {each for row in await self.read() for each in ID.findall(row)}

    async def restore(self) -> None:
        """Have all be stored again as it was."""
        await self._connection.execute(self._again)

    async def read(self) -> Stored:
        """Return what is stored, but for times, numbers of rows, and which new ids were made."""
        found = await self._connection.fetch(
            " union all ".join(_reading(row["name"], row["passing"] or ()) for row in self._rows)
        )
        read = (TIME.sub("then", row["row"]) for row in found)
        if not self._known:
            return Counter(read)
        return Counter(ID.sub(lambda each: each[0] if each[0] in self._known else "new", row) for row in read)


def _reading(table: str, passing: Sequence[str]) -> str:
    """Return what reads a table as texts. Of what passes it says only whether there is any."""
    marks = ", ".join(f"'{column}', stored.{column} is not null" for column in passing)
    return (
        f"select '{table} ' || ((to_jsonb(stored) - '{{{','.join(passing)}}}'::text[])"
        f" || jsonb_build_object({marks}))::text as row from pgqueue.{table} as stored"
    )


def difference(wanted: Stored, found: Stored) -> str:
    """Say what two readings do not have in common."""
    return json.dumps({"missing": sorted(wanted - found), "too many": sorted(found - wanted)})
