"""Time, moved as the test kit moves it for users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgqueue.store import Store

if TYPE_CHECKING:
    from conftest import Connection

TABLES: Final = """
select format('pgqueue.%I', relname) as name from pg_class
where relnamespace = 'pgqueue'::regnamespace and relkind in ('r', 'p') and not relispartition
  and relname <> 'migration'
order by relname
"""
"""All tables, as the catalog has them."""

_STORE: Final = Store("pgqueue")


async def pass_time(connection: Connection, seconds: float) -> None:
    """Have *seconds* pass for all that is stored. *connection* is one of pgqueue's own."""
    await _STORE.move_times(connection, seconds, of_leases=True)
