"""What an operator, a DBA or a user's own DDL does to a whole database is waited out, and told of."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import anyio
import asyncpg
import httpx
import pytest
from conftest import OWNER, with_role
from kit.inside import database
from kit.waiting import eventually, holds

from pgqueue import PgQueue, Task
from pgqueue.errors import MissingPrivilegeError, PgQueueError
from pgqueue.testing.databases import Databases, with_database
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("W7")

TOKEN = "t" * 32
AT_ONCE = 4
"""Scenes that are played at once: each has a dozen sessions."""
LASTS = 1.0
"""Seconds for which a trouble lasts after every door was tried."""
PAGES = ("/dashboard", "/dashboard/jobs", "/dashboard/workers", "/jobs", "/queues", "/readyz")


class Trouble(NamedTuple):
    """How a superuser begins a trouble, and ends it; `{db}` and `{role}` are the database and the role."""

    begin: str
    end: str
    says: str
    """What the log has to say of it."""
    is_cut: bool = False
    """Whether all sessions are ended as it begins, because only new ones see it."""
    is_met_at_start: bool = False
    """Whether another worker is started meanwhile, which at once meets what others meet tomorrow."""


def set_for_all(where: str, setting: str, says: str) -> Trouble:
    name = setting.partition(" ")[0]
    return Trouble(f"alter {where} set {setting}", f"alter {where} reset {name}", says, is_cut=True)


def limited(what: str, off: str, on: str, says: str) -> Trouble:
    return Trouble(f"alter {what} {off}", f"alter {what} {on}", says, is_cut=True)


def revoked(rights: str) -> Trouble:
    return Trouble(f"revoke {rights} from {OWNER}", f"grant {rights} to {OWNER}", "permission denied")


def renamed(kind: str, name: str, says: str) -> Trouble:
    """Rename a part of the schema, as a half-done restore or a clean-up leaves it."""
    schema, _, part = name.rpartition(".")
    hidden = f"{schema}.hidden" if schema else "hidden"
    call = "()" if kind == "function" else ""
    return Trouble(
        f"alter {kind} {name}{call} rename to hidden", f"alter {kind} {hidden}{call} rename to {part}", says
    )


def refused(events: str, table: str) -> Trouble:
    return Trouble(
        "create function public.refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'not today'; end $$;"
        f"create trigger refuse before {events} on pgqueue.{table} execute function public.refuse()",
        "drop function public.refuse() cascade",
        "not today",
    )


def hidden(table: str) -> Trouble:
    return Trouble(
        f"alter table pgqueue.{table} enable row level security, force row level security",
        f"alter table pgqueue.{table} disable row level security, no force row level security",
        "row-level security",
    )


TROUBLES: Mapping[str, Mapping[str, Trouble]] = {
    "new sessions": {
        "closed": limited(
            "database {db}", "allow_connections false", "allow_connections true", "not currently accepting"
        ),
        "too many connections": limited(
            "database {db}", "connection limit 0", "connection limit -1", "too many connections"
        ),
        "no login": limited("role {role}", "nologin", "login", "not permitted to log in"),
        "read-only role": set_for_all("role {role}", "default_transaction_read_only to on", "read-only"),
        # pgqueue has timeouts of its own: nothing happens.
        "timeouts": set_for_all("role {role}", "statement_timeout to 1", ""),
    },
    "something lacks": {
        "usage": revoked("usage on schema pgqueue"),
        "jobs": revoked("all on pgqueue.job"),
        "leases": revoked("all on pgqueue.lease"),
        "a function": renamed("function", "pgqueue.paused_lanes", "paused_lanes() does not exist"),
        "a table": renamed("table", "pgqueue.ready", '"pgqueue.ready" does not exist'),
        "the schema": renamed("schema", "pgqueue", "does not exist"),
        "rows": hidden("ready"),
        "rows of jobs": hidden("job"),
    },
    "a user's own": {
        "trigger on jobs": refused("insert or update", "job"),
        "trigger on places": refused("insert or delete", "ready"),
        "trigger on leases": refused("insert or update", "lease"),
        "event triggers": Trouble(
            # A day's partition is missing, as it will be tomorrow.
            "do $$ begin execute (select 'drop table ' || max(inhrelid::regclass::text) from pg_inherits"
            " where inhparent = 'pgqueue.job'::regclass and inhrelid::regclass::text ~ '[0-9]$'); end $$;"
            "create function public.refuse() returns event_trigger language plpgsql as"
            " $$ begin raise exception 'not today'; end $$;"
            "create event trigger refuse_{db} on ddl_command_start execute function public.refuse();"
            "create event trigger refuse_drop_{db} on sql_drop execute function public.refuse()",
            "drop event trigger refuse_{db}; drop event trigger refuse_drop_{db};"
            "drop function public.refuse()",
            "not today",
            is_met_at_start=True,
        ),
    },
}


class Scene(NamedTuple):
    """A migrated database with a role of its own, and a superuser to trouble it."""

    dsn: str
    root: Connection
    """In the maintenance database."""
    inside: Connection
    names: Mapping[str, str]

    async def do(self, sql: str, *, is_cut: bool) -> None:
        """Run a superuser's *sql*; end all sessions of the role where it *is_cut*."""
        sql = re.sub(r"\{(db|role)\}", lambda found: self.names[found[1]], sql)
        await (self.root if is_cut else self.inside).execute(sql)
        if is_cut:
            await self.root.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1",
                self.names["role"],
            )

    async def count_days(self) -> int:
        """Return how many days have partitions."""
        query = "select count(*) from pg_inherits where inhparent = 'pgqueue.job'::regclass"
        count: int = await self.inside.fetchval(query)
        return count

    async def has_days(self, count: int) -> bool:
        """Return whether that many days have partitions."""
        return await self.count_days() == count


@asynccontextmanager
async def scene_of(server: str, databases: Databases) -> AsyncIterator[Scene]:
    dsn = databases.clone()
    name, role = urlsplit(dsn).path[1:], f"troubled_{uuid4().hex[:8]}"
    root, inside = await asyncpg.connect(server), await asyncpg.connect(with_database(server, name))
    await root.execute(f"create role {role} login password '{role}' in role {OWNER}")
    try:
        yield Scene(with_role(dsn, role), root, inside, {"db": name, "role": role})
    finally:
        await inside.close()
        await root.execute(f"drop database {name} with (force)")
        await root.execute(f"drop role {role}")
        await root.close()


scene_name: ContextVar[str] = ContextVar("scene_name", default="")


@contextmanager
def loud_records() -> Iterator[dict[str, list[str]]]:
    """Collect what is logged to be seen, by the trouble in whose tasks it is logged."""
    found: dict[str, list[str]] = {}

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.setdefault(scene_name.get(), []).append(record.getMessage())

    collector = Collector(logging.WARNING)
    logging.getLogger("pgqueue").addHandler(collector)
    try:
        yield found
    finally:
        logging.getLogger("pgqueue").removeHandler(collector)


async def go_in(dsn: str) -> None:
    async with PgQueue(dsn, connect_timeout=2.0):
        pass


def doors(pgq: PgQueue, dsn: str, work: Task[[int], int], known: UUID) -> dict[str, Awaitable[Any]]:
    """All ways in."""
    return {
        "enqueue": work.enqueue(1),
        "enqueue to a new queue": work.options(queue="new").enqueue(1),
        "enqueue many": pgq.enqueue_many([work.s(n) for n in range(3)]),
        "enqueue thousands": pgq.enqueue_many(work.s(n) for n in range(2500)),
        "enqueue keyed": work.options(idempotency_key="key").enqueue(1),
        "enqueue delayed": work.options(delay=60).enqueue(1),
        "mark processed": pgq.mark_processed("source", "event"),
        "cancel": pgq.cancel(known),
        "pause": pgq.pause(queue="other"),
        "redrive many": pgq.redrive_many(all=True),
        "get": pgq.get(known),
        "jobs": pgq.jobs(),
        "measure": pgq.measure(),
        "dead letters": pgq.dead_letters(),
        "workers": pgq.list_workers(),
        "check": pgq.check(),
        "open": go_in(dsn),
    }


async def try_doors(pgq: PgQueue, dsn: str, work: Task[[int], int], known: UUID) -> dict[str, object]:
    """Go through all doors; return what answers as it may not: but for success, by a PgQueueError."""
    calls = doors(pgq, dsn, work, known)
    with anyio.fail_after(120):
        answers = await asyncio.gather(*calls.values(), return_exceptions=True)
    wrong: dict[str, object] = {
        name: answer
        for name, answer in zip(calls, answers, strict=True)
        if isinstance(answer, BaseException) and not isinstance(answer, PgQueueError)
    }
    transport = httpx.ASGITransport(app=status_app(pgq, token=TOKEN), raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        for page in PAGES:
            answer = await client.get(page, follow_redirects=True)
            if answer.status_code == 500:
                wrong[page] = answer.text
    return wrong


async def live_through(
    trouble: Trouble, scene: Scene, name: str, is_told: Callable[[], bool]
) -> dict[str, object]:
    """Have a trouble begin and end under a PgQueue and its workers; return what went wrong."""
    scene_name.set(name)
    # Each door is to say within two seconds that it is shut; before and behind, a login may take longer.
    patience, shut = 30.0, 2.0
    pgq = PgQueue(scene.dsn, connect_timeout=patience, max_connections=3)

    @pgq.task
    async def work(number: int) -> int:
        return number

    async def works(queue: str) -> bool:
        try:
            return await (await work.options(queue=queue).enqueue(1)).result(timeout=60) == 1
        except PgQueueError:
            return False

    days = await scene.count_days()
    queues = ["default", "late"] if trouble.is_met_at_start else ["default"]
    async with pgq, pgq.worker(lease_ttl=3) as worker:
        known = await work.options(queue="other").enqueue(0)
        assert await works("default")
        awaited = asyncio.create_task((await work.options(delay=1).enqueue(7)).result(timeout=90))
        database(pgq).connect_timeout = shut
        await scene.do(trouble.begin, is_cut=trouble.is_cut)
        try:
            async with AsyncExitStack() as stack:
                if trouble.is_met_at_start:
                    await stack.enter_async_context(pgq.worker(queues=["late"]))
                wrong = await try_doors(pgq, scene.dsn, work, known.id)
                await asyncio.sleep(LASTS)
                # A machine that is slow meets it later.
                with anyio.move_on_after(60):
                    await eventually(lambda: holds(is_told()))
                await scene.do(trouble.end, is_cut=trouble.is_cut)
                database(pgq).connect_timeout = patience
                for queue in queues:
                    await eventually(partial(works, queue))
                await eventually(lambda: scene.has_days(days))
                assert worker.is_alive
        finally:
            await asyncio.wait((awaited,), timeout=60)
        error = awaited.exception()
        # A job that is hidden while it is awaited is called that, and not missing.
        if error is not None and not isinstance(error, MissingPrivilegeError):
            wrong["awaited"] = error
        await pgq.check()
    return wrong


@pytest.mark.parametrize("kind", TROUBLES)
async def test_a_trouble_of_all_is_waited_out_and_told_of_to_callers_and_in_the_log(
    server: str, databases: Databases, kind: str
) -> None:
    wrong: dict[str, dict[str, object]] = {}

    turns = anyio.CapacityLimiter(AT_ONCE)

    with loud_records() as logged:

        def is_told(name: str, trouble: Trouble) -> bool:
            # The thread that keeps the lease is nobody's task.
            texts = [*logged.get(name, []), *logged.get("", [])]
            return not trouble.says or any(trouble.says in text for text in texts)

        async def play(name: str, trouble: Trouble) -> None:
            async with turns, scene_of(server, databases) as scene:
                wrong[name] = await live_through(trouble, scene, name, partial(is_told, name, trouble))

        async with anyio.create_task_group() as group:
            for name, trouble in TROUBLES[kind].items():
                group.start_soon(play, name, trouble)

    for name, trouble in TROUBLES[kind].items():
        texts = logged.get(name, [])
        if not is_told(name, trouble):
            wrong[name]["not said"] = texts
        # Two workers, and what comes once more at the end.
        same = Counter(
            re.sub(r"\([^()]*(\([^()]*\))?[^()]*\)|[0-9a-f-]{8,}|[\d.]+", "_", text) for text in texts
        )
        if often := {text: count for text, count in same.items() if count > 4}:
            wrong[name]["said too often"] = often
    assert {name: found for name, found in wrong.items() if found} == {}
