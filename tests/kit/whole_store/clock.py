"""Time, moved by shifting whatever the database has stored of it."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from conftest import Connection

TABLES: Final = """
select format('pgqueue.%I', relation.relname) as name,
       array(
           select quote_ident(attname) from pg_attribute
           where attrelid = relation.oid and attnum > 0 and not attisdropped
             and atttypid = 'timestamptz'::regtype
       ) as columns
from pg_class as relation
where relation.relnamespace = 'pgqueue'::regnamespace
  and relation.relkind in ('r', 'p') and not relation.relispartition
  and relation.relname <> 'migration'
order by relation.relname
"""
"""All tables and their times, as the catalog has them: a new column is moved, too."""

ODD: Final = 0.000137
"""Seconds, of which each shift has some more: where a time is a part of a key, no row may meet another that
was shifted before."""
_shifts = count(1)


async def pass_time(connection: Connection, seconds: float) -> None:
    """Have *seconds* pass for all that is stored. *connection* is one of pgqueue's own."""
    seconds += next(_shifts) % 997 * ODD
    moves = [
        f"update {row['name']} set "
        + ", ".join(f"{column} = {column} - interval '{seconds} seconds'" for column in row["columns"])
        + " where "
        + " or ".join(f"isfinite({column})" for column in row["columns"])
        for row in await connection.fetch(TABLES)
        if row["columns"]
    ]
    await connection.execute(";\n".join(moves), timeout=60)
