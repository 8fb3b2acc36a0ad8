"""No table grows for ever: its rows go with their jobs, or after a time, or somebody has configured each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import Mock
from uuid import UUID

import pytest
from kit import inside
from kit.hostile import Plant, plant, tables
from kit.whole_store.checks import LASTING
from kit.whole_store.clock import pass_time
from kit.whole_store.draining import DAY, drain, forget_all, keep_up

from pgqueue import PgQueue
from pgqueue.database.link import Link
from pgqueue.store import Store
from pgqueue.upkeep.tidying import tidying_chores
from pgqueue.upkeep.tools import Tools

if TYPE_CHECKING:
    from conftest import Connection

CONFIGURED: Final[Mapping[str, str]] = {
    "chore": "one for each chore, and for each queue whose jobs age",
    "limit_rule": "one for each limit that code declares or an operator sets",
    "schedule": "one for each that code declares or somebody makes",
    "setting": "one for each task and queue that is paused or configured",
    "tick": "so many for each schedule",
    "web_secret": "one",
    "window_weight": "one for each weight that an operator sets",
    "workflow_tally": "one for each status",
}
"""Tables whose rows somebody has configured, and how many there are. Nothing that jobs do adds to them."""

GATE, LIMITER, LEASE = (f"'{UUID(int=number)}'" for number in (7, 8, 9))
BELONGING: Final[Mapping[str, Mapping[str, str]]] = {
    "limit_rule": {"name": "'fair'", "kind": "'window'", "slots": "1"},
    "gate": {"id": GATE, "rule": "'fair'"},
    "gate_state": {"gate": GATE, "lanes": "'{1}'"},
    "gate_pass": {"gate": GATE},
    "window_lane": {"gate": GATE},
    "limiter": {"id": LIMITER},
    "limiter_state": {"limiter": LIMITER},
    "limiter_hold": {"limiter": LIMITER},
    "lease": {"id": LEASE},
    "running": {"lease_id": LEASE},
}
"""What makes rows of several tables fit each other."""
STANDING: Final = ("ready", "scheduled", "blocked", "running")


@pytest.mark.contract("P4.12")
async def test_no_table_grows_for_ever(pgq: PgQueue, db: Connection) -> None:
    store = Store("pgqueue")
    await db.execute("set pgqueue.writer to 'on'")
    there = await tables(db)
    for table in there:
        place = "ready" if table.name in STANDING else "ended"
        await plant(db, Plant(table, BELONGING.get(table.name, {}), place), "")
    await end_operations(db)
    empty = [table.name for table in there if not await has_rows(db, table.name)]
    assert empty == []

    await drain(store, db)
    await forget_all(store, db)
    await tidy(pgq)
    await keep_up(store, db)
    await store.look_at_lanes(db, 0, 1000)
    await pass_time(db, DAY)
    await store.remove_lanes(db, 1.0, 1000)
    await store.delete_lanes(db, 0.0, 1000)
    # Those that were ended go when another one is, which is the one that stays.
    await pgq.end_web_session("another", valid_until=time.time() + 86_400)
    await db.execute("delete from pgqueue.ended_session where id = 'another'")

    kept = {table.name for table in there if await has_rows(db, table.name)}
    assert kept <= set(CONFIGURED)
    assert set(CONFIGURED) <= LASTING


async def tidy(pgq: PgQueue) -> None:
    """Remove what has been kept for its time."""
    link = Link(inside.database(pgq), durable=True)
    unheard: Any = Mock()
    tools = Tools(inside.store(pgq), link, inside.observers(pgq), unheard, unheard, "worker")
    try:
        for chore in tidying_chores(tools):
            await chore.run()
    finally:
        await link.close()


async def end_operations(db: Connection) -> None:
    """End what operators have begun."""
    for table in ("bulk", "mass_redrive"):
        await db.execute(f"update pgqueue.{table} set state = 'done', ended_at = now()")


async def has_rows(db: Connection, table: str) -> bool:
    return bool(await db.fetchval(f"select exists (select from pgqueue.{table})"))
