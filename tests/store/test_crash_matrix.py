"""A client that dies at any message of any verb, before the server has it or before the answer is back.

Each verb is cut at each of its messages, and then called again, as clients, workers and the upkeep do. What
is stored then has to be what one call without a cut comes to. Verbs are all public methods, and all
statements of `sql/` that write: one without an entry fails.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import pytest
from kit import inside
from kit.cut_line import CutLine, cut_line
from kit.verbs import STORE_VERBS, Scene, client_verbs, declare, set_scene, tick
from kit.whole_store.checks import violations
from kit.whole_store.copies import Copy, Stored, difference
from kit.whole_store.draining import drain

from pgqueue import DatabaseUnavailableError, PgQueue
from pgqueue.database.sql import ROOT, load_statements
from pgqueue.errors import PgQueueError

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("F13")

MAY_RAISE = frozenset({"workflow_result", "workflow_results", "join_workflow"})
"""What waits for an end that does not come."""

IS_LONG = bool(os.environ.get("PGQUEUE_CRASH_LONG"))
"""Whether each message of what only reads is cut, too, and each case is drained to its end."""


Verb = Callable[[], Awaitable[Any]]


class States(NamedTuple):
    """What is stored before a verb, after one call of it, and after two."""

    before: Stored
    once: Stored
    twice: Stored


@dataclass
class Bench:
    """The scene, a copy of it, those who are behind the line, and somebody who looks from beside it."""

    line: CutLine
    dsn: str
    pgq: PgQueue
    near: str
    scene: Scene
    copy: Copy
    db: Connection
    direct: PgQueue

    async def run(self, verb: Verb, at: int | None, *, is_carried_out: bool) -> bool | None:
        """Do a verb, cut at a message; return whether it may have been done. None: it was not cut short."""
        self.line.arm(at, is_carried_out=is_carried_out)
        try:
            await verb()
        except DatabaseUnavailableError as error:
            return bool(error.may_have_happened)
        except PgQueueError:
            return None
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError):
            return True
        finally:
            self.line.arm(None, is_carried_out=False)
        return None

    async def try_verb(self, name: str, verb: Verb) -> list[str]:
        """Cut a verb at each of its messages, both ways; return what came out wrong."""
        before = await self.copy.read()
        # Twice: a process learns something the first time.
        await self.run(verb, None, is_carried_out=False)
        await self.copy.restore()
        self.line.arm(None, is_carried_out=False)
        wrong: list[str] = []
        try:
            await verb()
        except PgQueueError as error:
            wrong += [] if name in MAY_RAISE else [f"{name}: {error}"]
        messages, once = self.line.count, await self.copy.read()
        if not messages:
            wrong.append(f"{name} asks nothing of the server")
        with suppress(PgQueueError):
            await verb()
        states = States(before, once, await self.copy.read())
        for number in range(messages):
            # What changes nothing is cut in one way only, and once.
            if once == before and number and not IS_LONG:
                break
            for is_carried_out in (True,) if once == before else (False, True):
                wrong += await self._try_cut(name, verb, states, number, is_carried_out=is_carried_out)
        await self.copy.restore()
        return wrong

    async def _try_cut(
        self, name: str, verb: Verb, states: States, number: int, *, is_carried_out: bool
    ) -> list[str]:
        await self.copy.restore()
        where = f"{name}, message {number}, {'answer lost' if is_carried_out else 'not sent'}"
        wrong: list[str] = []
        may_have = await self.run(verb, number, is_carried_out=is_carried_out)
        if may_have is False and (now := await self.copy.read()) != states.before:
            wrong.append(f"{where}: it says that nothing was done: {difference(states.before, now)}")
        if may_have is not None and await self.run(verb, None, is_carried_out=False) is not None:
            wrong.append(f"{where}: the second call fails, too")
        now = await self.copy.read()
        if not (agrees(states.once, now) or (may_have and agrees(states.twice, now))):
            wrong.append(f"{where}: {difference(states.once, now)}")
        wrong += [f"{where}: {each}" for each in await violations(self.db)]
        if IS_LONG:
            await drain(inside.store(self.direct), self.db)
        return wrong


def agrees(wanted: Stored, found: Stored) -> bool:
    """Whether the same is stored. A note too many is a look too many; none may be missing."""
    notes = {row for row in wanted if row.startswith("note ")}
    return notes <= found.keys() and _but_notes(wanted) == _but_notes(found)


def _but_notes(stored: Stored) -> Stored:
    return Counter({row: count for row, count in stored.items() if not row.startswith("note ")})


@pytest.fixture
async def bench(dsn: str, superuser_dsn: str) -> AsyncIterator[Bench]:
    root = await asyncpg.connect(superuser_dsn)
    async with cut_line(dsn) as (line, near), PgQueue(dsn) as direct, PgQueue(near) as pgq:
        declare(direct)
        declare(pgq)
        db = await inside.database(direct).connect(durable=False)
        scene = await set_scene(direct, db)
        copy = Copy(root)
        await copy.take()
        assert await violations(db) == []
        yield Bench(line, dsn, pgq, near, scene, copy, db, direct)
        await db.close()
    await root.close()


async def writing(db: Connection) -> set[str]:
    """Return the statements that write: by themselves, or by a function that may."""
    volatile = {
        row["proname"]
        for row in await db.fetch(
            "select proname from pg_proc where pronamespace = 'pgqueue'::regnamespace and provolatile = 'v'"
        )
    }
    found = set()
    for name, sql in load_statements("pgqueue").items():
        text = re.sub(r"--.*", "", sql)
        called = set(re.findall(r"pgqueue\.(\w+)\(", text))
        if (
            re.search(r"\b(insert into|update pgqueue|delete from|for update|for share)", text)
            or called & volatile
        ):
            found.add(name)
    return found - {file.name.removesuffix(".sql") for file in (ROOT / "schema").iterdir()}


ELSEWHERE = {
    "drop_partition": "tests/upkeep/test_retention.py drops days of which no job is left",
    "move_other_times": "moves the time of a test; see pgqueue.testing.Clock",
    "plan_moves": "says how the time of a test is moved, and names functions that write",
    "find_first": "only looks for the row at which a batch fails, and locks it",
    "submit": "writes for roles that may do nothing else, all in one statement; see enqueue_many",
}
"""Statements that write or lock and that the matrix has no verb for, and why."""


async def test_a_verb_that_is_cut_at_any_message_and_called_again_comes_to_one_call(bench: Bench) -> None:
    wrong: list[str] = []
    for name, verb in client_verbs().items():
        wrong += await bench.try_verb(name, partial(verb, bench.pgq, bench.scene))

    link: list[Connection] = []

    async def worker() -> Connection:
        while link and link[0].is_closed():
            link.pop()
        if not link:
            link.append(await inside.database(bench.pgq).connect(durable=False))
        return link[0]

    store, ticker = inside.store(bench.pgq), inside.ticker_of(bench.pgq)
    for name, of_store in STORE_VERBS.items():

        async def write(of_store: Any = of_store) -> None:
            await of_store(store, await worker(), bench.scene)

        wrong += await bench.try_verb(f"store.{name}", write)

    async def tick_once() -> None:
        await tick(store, await worker(), bench.scene, ticker)

    wrong += await bench.try_verb("tick", tick_once)
    await (await worker()).close()

    assert not wrong, "\n".join(wrong)
    unseen = await writing(bench.db) - bench.line.seen
    assert sorted(unseen) == sorted(ELSEWHERE)
