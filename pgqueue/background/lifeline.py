"""Finds connections that have died in silence: whoever waits on one would wait until its limit, or for ever.

A firewall forgets a connection, a host freezes: nothing arrives any more, and nothing says so. A statement
may run for hours, so its length tells nothing. But the server can be asked, on another connection, what the
session does. If that has been idle for longer than an answer takes, and here one waits for it, the question
or the answer is lost. So no limit is put on any statement, and nothing is added to the way of any: once a
second one looks who waits, and only who waits for two seconds is asked about.

Where the server that answers is another one (the DSN names several hosts), or does not know the session, the
connection is to a server that is gone.

Behind a pooler only the session of a handler's transaction is known. pgqueue's own statements have a limit
there (`pgqueue.database.pool`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import anyio
import asyncpg

from pgqueue.background.loop import Loop
from pgqueue.database.link import Link
from pgqueue.database.outages import CONNECTION_ERRORS
from pgqueue.database.patience import Reminder
from pgqueue.database.pool import Database
from pgqueue.database.sql import load_statements
from pgqueue.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from pgqueue.database.connection import OwnConnection

logger = logging.getLogger("pgqueue.database")

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at who waits. A look sends nothing."""
PATIENCE: Final = 2.0
"""Seconds that one has waited, and its session has been idle, at least."""
ROUND_TRIPS: Final = 3
"""The same, in round trips of the question: a slow line is not a dead one."""
ASK_AGAIN: Final = 4.0
"""Seconds until one asks again about a session that was at work, at most."""
ANSWER_WITHIN: Final = 2.0
"""Seconds after which the connection that one asks on has died itself."""
SUSPECTED_FOR: Final = 0.8
"""Seconds between two answers that both say so."""
AGES_DIFFER: Final = 15.0
"""Seconds between the ages that a session has here and there, if it is another one with its number."""
KEPT_FOR: Final = 60.0
"""Seconds for which that connection is kept where nobody waits."""
REFUSED: Final = (*CONNECTION_ERRORS, asyncpg.PostgresError, DatabaseUnavailableError)


@dataclass(slots=True)
class _Wait:
    """One answer that is waited for."""

    answer: asyncio.Future[object]
    since: float
    ask_at: float
    suspected_at: float | None = None
    """When the server was first heard to be idle. It is asked twice: one that stood still has yet to read."""


class Lifeline:
    """Looks after the connections of one process that belong to its event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._link = Link(database, durable=False, command_timeout=ANSWER_WITHIN)
        self._waits: dict[OwnConnection, _Wait] = {}
        self._asked_at = 0.0
        self._reminder = Reminder()
        self.loop = Loop("dead connections")

    async def run(self) -> None:
        """Look after connections until cancelled."""
        with self.loop.lifetime():
            try:
                await self.loop.outlive(self._run)
            finally:
                self._waits.clear()
                self._link.drop()

    async def _run(self) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY)
            with self.loop.step():
                await self._look()

    async def _look(self) -> None:
        now = time.monotonic()
        waits: dict[OwnConnection, _Wait] = {}
        for connection in self._database.connections_here():
            answer = awaited_answer(connection)
            if answer is not None and _session_of(connection, is_pooled=self._database.is_pooled) is not None:
                wait = self._waits.get(connection)
                waits[connection] = (
                    wait if wait is not None and wait.answer is answer else _Wait(answer, now, now + PATIENCE)
                )
        self._waits = waits
        if due := [connection for connection, wait in waits.items() if wait.ask_at <= now]:
            self._asked_at = now
            await self._judge(due)
        elif now - self._asked_at > KEPT_FOR:
            await self._link.close()

    async def _judge(self, connections: list[OwnConnection]) -> None:
        """Ask about *connections*, and drop those that are dead."""
        try:
            dead, is_new = await self._find_dead(connections)
            if dead and not is_new:
                # Only a new connection shows that there are others to be had.
                self._link.drop()
                dead, _ = await self._find_dead(connections)
        except REFUSED as error:
            # No answer, no verdict: what is connected may be all that there is.
            logger.debug("no connection to ask about those that wait: %s: %s", type(error).__name__, error)
            return
        if not dead:
            return
        logger.log(
            self._reminder.level(),
            "%d connections have died in silence; dropped, with those that are idle, and opened anew: %s",
            len(dead),
            "; ".join(dead.values()),
        )
        for connection in dead:
            connection.terminate()
        # Those as old went the same way, probably, and each would be found out only when it is used. Behind a
        # pooler those that wait are among them, because it cannot be asked about them.
        since = min(self._waits[connection].since for connection in dead)
        for connection in self._database.connections_here():
            if (
                connection.opened_at < since
                and (self._database.is_pooled or awaited_answer(connection) is None)
                and not connection.is_in_transaction()
            ):
                connection.terminate()

    async def _find_dead(self, connections: list[OwnConnection]) -> tuple[dict[OwnConnection, str], bool]:
        """Return which are dead, and why; and whether that was asked on a new connection."""
        is_new = not self._link.is_open
        try:
            return await self._ask(connections), is_new
        except REFUSED:
            if is_new:
                raise
            # It may have died with the others.
            self._link.drop()
            return await self._ask(connections), True

    async def _ask(self, connections: list[OwnConnection]) -> dict[OwnConnection, str]:
        is_pooled = self._database.is_pooled
        schema = self._database.schema
        statement = load_statements(schema)["find_sessions"]
        numbers = [_session_of(each, is_pooled=is_pooled) for each in connections]
        async with self._link.use() as asking:
            asked_at = time.monotonic()
            rows = await asking.fetch(statement, numbers)
            took = time.monotonic() - asked_at
            place = asking.place  # type: ignore[attr-defined]  # it is an OwnConnection
        sessions = {row["pid"]: row for row in rows}
        dead: dict[OwnConnection, str] = {}
        for connection, number in zip(connections, numbers, strict=True):
            wait = self._waits[connection]
            waited = asked_at - wait.since
            patience = max(PATIENCE, ROUND_TRIPS * took)
            session = sessions.get(number)
            wait.ask_at = asked_at + min(waited, ASK_AGAIN)
            if session is None or wait.answer.done() or waited < patience:
                continue
            is_there = session["is_there"] and (
                is_pooled or abs(session["seconds"] - (asked_at - connection.opened_at)) <= AGES_DIFFER + took
            )
            if not is_there and connection.place != place:
                # Another server answers, which is the one to talk to if it takes writes.
                problem = "another server answers" if session["is_primary"] else None
            elif not is_there:
                problem = "the server does not know it"
            elif session["state"] is None or not session["state"].startswith("idle"):
                problem = None
            elif session["state_seconds"] >= patience:
                if wait.suspected_at is None:
                    wait.suspected_at = asked_at
                if asked_at - wait.suspected_at < SUSPECTED_FOR:
                    wait.ask_at = asked_at
                    continue
                problem = f"the server has been {session['state']} on it for {session['state_seconds']:.1f} s"
            else:
                problem = None
            if problem is not None:
                dead[connection] = f"process {number}, waited {waited:.1f} s: {problem}"
        return dead


def _session_of(connection: OwnConnection, *, is_pooled: bool) -> int | None:
    """Return the number of the session of *connection*; None: a pooler's numbers say nothing of it."""
    return connection.session if is_pooled else connection.get_server_pid()


def awaited_answer(connection: OwnConnection) -> asyncio.Future[object] | None:
    """Return the answer of the server that is waited for on *connection*; None: none is.

    asyncpg does not say, and to note it with each statement would cost each. Its protocol refers to it.
    """
    for each in gc.get_referents(connection.protocol):
        if isinstance(each, asyncio.Future) and not each.done():
            return each
    return None
