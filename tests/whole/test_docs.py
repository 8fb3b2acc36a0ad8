"""What the documentation shows works: its Python is run, in its order."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
import sqlalchemy
from fastapi import FastAPI
from kit.drivers import url_for
from kit.snippets import PAGES, ROOT, imported, run, snippets, snippets_in
from kit.waiting import eventually
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import pgqueue
from pgqueue import JobStatus, PgQueue
from pgqueue.webhooks import BearerToken, verify

if TYPE_CHECKING:
    from conftest import Connection


@pytest.mark.contract("P3.1", "P3.2", "P3.7", "P3.11", "BP3", "BP4")
async def test_the_page_on_idempotency_does_what_it_says(pgq: PgQueue, db: Connection) -> None:
    charges: dict[str, int] = {}

    async def charge(total: int, key: str) -> str:
        charges[key] = total
        return f"receipt of {total}"

    await db.execute(
        """
        create table orders (id integer primary key, total integer, status text default 'new');
        create table receipts (order_id integer primary key, receipt text);
        insert into orders (id, total) values (7, 70), (9, 90);
        """
    )
    names = {
        **{name: getattr(pgqueue, name) for name in pgqueue.__all__},
        "pgq": pgq,
        "connection": db,
        "charge": charge,
        "timedelta": timedelta,
    }

    for code in snippets("how-to/idempotency.md", "python"):
        await run(code, names)
    [by_sql] = snippets("how-to/idempotency.md", "sql")
    same = await db.fetchval(by_sql)
    async with pgq.worker():
        result = await names["first"].result(timeout=60)
        await pgq.handle(names["handles"][0].id).result(timeout=60)
        await eventually(lambda: are_processed(db))

    assert same == names["first"].id
    assert result == "receipt of 70"
    assert set(charges.values()) == {70, 90}
    assert await db.fetchval("select array_agg(receipt order by order_id) from receipts") == [
        "receipt of 70",
        "receipt of 90",
    ]
    assert await names["draft"].status() is JobStatus.SCHEDULED


async def are_processed(db: Connection) -> bool:
    return bool(await db.fetchval("select bool_and(status = 'completed') from orders"))


async def test_the_page_on_security_does_what_it_says(pgq: PgQueue) -> None:
    names: dict[str, Any] = {"pgq": pgq}
    job = await pgq.enqueue_by_name("send")

    for code in snippets("how-to/secure.md", "python"):
        await run(code, names)
    transport = httpx.ASGITransport(names["app"], client=("192.0.2.7", 40000))
    async with httpx.AsyncClient(transport=transport, base_url="http://jobs.example") as client:
        path, json = "/queue/queues/default/pause", dict[str, str]()
        stranger = await client.get(f"/queue/jobs/{job.id}")
        read = await client.get(f"/queue/jobs/{job.id}", headers={"X-User": "bob"})
        refused = await client.post(path, json=json, headers={"X-User": "bob"})
        done = await client.post(path, json=json, headers={"X-User": "ada"})

    assert [each.status_code for each in (stranger, read, refused, done)] == [403, 200, 403, 200]
    assert [each.actor for each in await pgq.settings()] == ["ada"]


def names_for(pgq: PgQueue, **names: Any) -> dict[str, Any]:
    """Return what the snippets of a page take as there."""
    return {name: getattr(pgqueue, name) for name in pgqueue.__all__} | {"pgq": pgq, **names}


@pytest.mark.contract("P8.1")
async def test_the_program_in_the_readme_runs(dsn: str) -> None:
    program = snippets_in(ROOT / "README.md", "python")[0].replace("postgresql://localhost/app", dsn)

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await asyncio.wait_for(process.communicate(), timeout=180)

    assert process.returncode == 0
    assert printed.decode().rstrip().endswith("sent 'Welcome!' to user@example.com")


@pytest.mark.contract("P8.3")
async def test_the_page_on_state_and_middleware_does_what_it_says(pgq: PgQueue) -> None:
    log: list[str] = []
    names = names_for(
        pgq,
        log=log,
        httpx=httpx,
        dataclass=dataclass,
        AsyncIterator=AsyncIterator,
        tenant=ContextVar("tenant", default="nobody"),
    )

    for code in snippets("how-to/state-and-middleware.md", "python"):
        await run(code, names)
    after = await names["charge"].enqueue(8)
    async with pgq.worker(concurrency=1):
        await after.result(timeout=60)

    assert (await after.refresh()).headers == {"tenant": "nobody"}
    assert log == ["charge 8", "commit"]
    with pytest.raises(pgqueue.InvalidArgumentsError):
        await pgq.enqueue_by_name("charge", 9, session=None)


@pytest.mark.contract("P8.1")
def test_the_program_in_the_readme_can_be_imported_by_a_worker() -> None:
    program = snippets_in(ROOT / "README.md", "python")[0]
    names: dict[str, Any] = {"__name__": "program"}

    exec(compile(program, "program.py", "exec"), names)

    assert list(names["pgq"].registry.names) == ["send_email"]


@pytest.mark.contract("P8.1")
async def test_the_service_in_the_readme_runs_jobs_and_has_a_dashboard(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGQUEUE_DSN", empty_dsn)
    names: dict[str, Any] = {"__name__": "service"}
    exec(compile(snippets_in(ROOT / "README.md", "python")[1], "service.py", "exec"), names)
    app = names["app"]

    async with app.router.lifespan_context(app) as state:
        transport = httpx.ASGITransport(_with_state(app, state), client=("127.0.0.1", 40000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post("/sign-up", params={"address": "ann@example.com"})
            job = await client.get(f"/queue/jobs/{answer.json()['job']}", params={"wait": 30})
            page = await client.get("/queue/dashboard/")

    assert (answer.status_code, job.json()["result"]) == (202, "sent to ann@example.com")
    assert page.status_code == 200


def _with_state(app: Any, state: Mapping[str, Any]) -> Any:
    """Return *app* as a server calls it, that has run its lifespan."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return serve


async def test_the_page_on_enqueueing_does_what_it_says(pgq: PgQueue, dsn: str, db: Connection) -> None:
    @pgq.task
    async def send_email(to: str, subject: str) -> None: ...

    await db.execute("create table orders (id integer)")
    engine = create_async_engine(url_for(dsn, "asyncpg"))
    alchemy: Any = {"engine": engine, "AsyncSession": AsyncSession, "text": sqlalchemy.text}
    names = names_for(pgq, connection=db, send_email=send_email, readers=["a@b.c", "d@e.f"], **alchemy)

    for code in snippets("how-to/enqueue-in-your-transaction.md", "python"):
        if "blocking" not in code:
            await run(code, names)
    await engine.dispose()
    [by_sql] = snippets("how-to/enqueue-in-your-transaction.md", "sql")
    await db.execute(by_sql)

    assert await db.fetchval("select count(*) from orders") == 2
    assert await db.fetchval("select count(*) from pgqueue.job") == 9


async def test_the_page_on_dead_letters_does_what_it_says(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def send_email(to: str) -> None:
        raise ValueError(to)

    jobs = await pgq.enqueue_many(send_email.s(f"{number}@b.c") for number in range(3))
    async with pgq.worker():
        await eventually(lambda: have_failed(pgq, 3))
    names = names_for(pgq, job_id=jobs[0].id)

    for code in snippets("how-to/dead-letters.md", "python"):
        await run(code, names)

    assert [action.action for action in await pgq.actions(jobs[0].id)] == ["discarded"]
    assert await jobs[2].status() is JobStatus.PENDING


async def have_failed(pgq: PgQueue, count: int) -> bool:
    return len((await pgq.dead_letters()).letters) == count


async def test_the_page_on_ordered_groups_does_what_it_says(pgq: PgQueue, db: Connection) -> None:
    names = names_for(pgq)
    *declarations, operations = snippets("how-to/ordering.md", "python")
    for code in declarations:
        await run(code, names)
    jobs = [await names["book"].enqueue(4711, entry) for entry in range(3)]
    await db.execute("select pgqueue.transition($1, 'failed')", jobs[0].id)
    await run(operations, names)

    assert names["stopped"].job_id == jobs[0].id
    assert [(each.name, each.on_dead) for each in await pgq.ordered_groups()] == [("book", "skip")]
    async with pgq.worker():
        for job in jobs:
            await job.result(timeout=60)


@pytest.mark.contract("P6.14")
async def test_the_page_on_webhooks_does_what_it_says(pgq: PgQueue) -> None:
    names = names_for(pgq, SECRET="a secret of sixteen bytes or more")

    for code in snippets("how-to/webhooks.md", "python"):
        await run(code, names)

    assert {"webhook:shop", "webhook:customers", "ship"} == set(pgq.registry.names)
    told = [job.options["webhooks"] for job in (await pgq.jobs(task="ship")).jobs]
    assert [[each["task"] for each in hooks] for hooks in told] == [["webhook:customers"], ["webhook:shop"]]


@pytest.mark.contract("P8.6")
async def test_the_page_on_http_targets_does_what_it_says(pgq: PgQueue) -> None:
    secret = "a secret of sixteen bytes or more"
    values = {"SECRET": secret, "BaseModel": BaseModel, "Field": Field, "verify": verify}
    names = names_for(pgq, BearerToken=BearerToken, **values)

    for code in snippets("how-to/http-targets.md", "python"):
        await run(code, names)

    assert {"charge", "pay", "book", "refund", "notify"} <= set(pgq.registry.names)
    assert len((await pgq.jobs(status=["pending", "blocked"])).jobs) == 3


@pytest.mark.parametrize(
    "page",
    [
        "how-to/retry.md",
        "how-to/time-limits.md",
        "how-to/pause-and-configure.md",
        "how-to/deploy-and-stop.md",
        "how-to/submit-and-poll.md",
        "reference/events-and-logs.md",
    ],
)
async def test_the_snippets_of_a_page_run(
    page: str, pgq: PgQueue, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @pgq.task
    async def send_email(to: str) -> None: ...

    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    handle = await send_email.enqueue("a@b.c")
    await handle.cancel()
    names = names_for(pgq, dsn=dsn, handle=handle, FastAPI=FastAPI, __name__=__name__)

    # What pages wait for is done by a worker; the jobs themselves are none of its own.
    async with asyncio.timeout(120), pgq.worker(queues=["another"]):
        for code in snippets(page, "python"):
            await run(code, names)


async def test_the_page_on_tests_does_what_it_says(dsn: str) -> None:
    pgq = PgQueue(dsn)

    @pgq.task
    async def send_email(to: str, subject: str) -> str:
        return f"sent {subject!r} to {to}"

    names = names_for(pgq, send_email=send_email)

    for code in snippets("how-to/test-your-tasks.md", "python"):
        # It would start a server of its own.
        if "embedded" not in code:
            await run(code, names)

    assert "job" in names


@pytest.mark.contract("P3.7")
async def test_the_page_on_debouncing_does_what_it_says(pgq: PgQueue, db: Connection) -> None:
    sent: list[list[str]] = []

    async def send_together(mails: list[dict[str, str]]) -> None:
        sent.append(sorted(mail["recipient"] for mail in mails))

    await db.execute("create table mail (recipient text, body text)")
    names = names_for(pgq, connection=db, send_together=send_together)
    for code in snippets("how-to/debounce.md", "python"):
        await run(code, names)
    assert await db.fetchval("select count(*) from pgqueue.job") == 5
    # Time passes.
    await db.execute("set pgqueue.writer = on")
    await db.execute("update pgqueue.scheduled set scheduled_at = now()")

    async with pgq.worker():
        results = [await names[job].result(timeout=60) for job in ("last", "two", "dropped", "running")]
        await eventually(lambda: has_sent(sent))

    assert results == ["indexed Dear Ann", "drew 2", "greeted ann on home", "imported"]
    assert sent == [["ann", "bob", "cid"]]


async def has_sent(sent: list[list[str]]) -> bool:
    return bool(sent)


@pytest.mark.contract("P8.3")
async def test_the_page_on_limiters_does_what_it_says(pgq: PgQueue) -> None:
    done: list[object] = []

    async def note(*what: object) -> str:
        done.append(what)
        return str(what)

    works = ("render", "write_ledger", "announce", "rebuild_now", "refresh_now")
    names = names_for(pgq, **dict.fromkeys(works, note))
    for code in snippets("how-to/limiters.md", "python"):
        await run(code, names)

    async with pgq.worker():
        jobs = [await names[task].enqueue(value) for task, value in (("publish", 1), ("rebuild", "a"))]
        assert [await job.result(timeout=60) for job in jobs] == [None, "('a',)"]
        assert await (await names["refresh"].enqueue("b")).result(timeout=60) is True

    assert len(done) == 5


PUBLIC = frozenset(
    {
        "pgqueue",
        *(
            f"pgqueue.{name}"
            for name in (
                "blocking", "embedded", "errors", "events", "logs", "metrics", "retry", "testing", "web",
                "webhooks",
            )
        ),
    }
)  # fmt: skip
"""What programs import: files at the top of the package, and the packages that list their names."""
PUBLIC |= {f"pgqueue.integrations.{path.stem}" for path in (ROOT / "pgqueue/integrations").glob("[a-z]*")}
PUBLIC |= {"pgqueue.integrations.django.dashboard"}
PUBLIC |= {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "pgqueue/compat").rglob("*.py")
}

FILE = re.compile(r"`((?:\w[\w-]*/)+[\w.-]+\.(?:py|sql|md|yml|json|html))`")
"""A file that a page names by its path from the top, or from the top of the package."""
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def path_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def private_imports(code: str) -> set[str]:
    return {name for name in imported(code) if name.startswith("pgqueue")} - PUBLIC


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_the_python_in_a_page_is_python_and_imports_public_modules_only(page: Path) -> None:
    assert [private_imports(code) for code in snippets_in(page, "python") if private_imports(code)] == []


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=path_of)
def test_an_example_imports_public_modules_only(example: Path) -> None:
    assert private_imports(example.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))

    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_index_leads_to_every_page() -> None:
    folder = ROOT / "docs"
    led_to = {folder / link for link in LINK.findall((folder / "index.md").read_text(encoding="utf-8"))}

    assert [path_of(page) for page in folder.glob("*/*.md") if page not in led_to] == []


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    named = FILE.findall(page.read_text(encoding="utf-8"))
    folders = (ROOT, ROOT / "pgqueue", ROOT / "tests")

    assert [name for name in named if not any((folder / name).exists() for folder in folders)] == []


@pytest.mark.contract("P7.2", "P7.10", "P7.17", "P7.19")
async def test_the_page_on_workflows_does_what_it_says(pgq: PgQueue) -> None:
    names: dict[str, Any] = {"pgq": pgq}

    async with pgq.worker(concurrency=50):
        for code in snippets("how-to/workflows.md", "python"):
            await run(code, names)
        big = await names["big"].result(timeout=60)
        stored, counted = await names["handle"].result(timeout=60)
        assert len(await names["pages"].result(timeout=60)) == 7

    assert big == sum(number**2 for number in range(2000))
    assert (stored, counted) == ("2 rows in warehouse", "2 rows in archive")


@pytest.mark.contract("P7.19", "P7.20", "P7.25")
async def test_the_page_on_durable_functions_does_what_it_says(pgq: PgQueue) -> None:
    names: dict[str, Any] = {"pgq": pgq}
    async with pgq.worker():
        for code in snippets("how-to/durable-functions.md", "python"):
            await run(code, names)
        assert await names["job"].result(timeout=60) == "receipt of 7: approved by ann"
        assert await names["printed"].result(timeout=60) == "page 100, page 0, page 1, page 200"


@pytest.mark.contract("P8.5")
async def test_the_page_on_batches_does_what_it_says(pgq: PgQueue) -> None:
    @dataclass
    class Document:
        text: str

    class Search:
        async def add(self, documents: Mapping[UUID, Document]) -> dict[UUID, str]:
            return {job_id: "no text" for job_id, each in documents.items() if each.text == "unreadable"}

    names = names_for(pgq, Document=Document, search=Search(), UUID=UUID)
    pgq.queue("default", max_retries=0)

    for code in snippets("how-to/batches.md", "python"):
        await run(code, names)
    async with pgq.worker():
        results = [await handle.result(timeout=60) for handle in names["handles"][:2]]
        with pytest.raises(pgqueue.JobFailed, match="no text"):
            await names["handles"][2].result(timeout=60)

    assert results == [None, None]


@pytest.mark.contract("P8.4")
async def test_the_page_on_receiving_does_what_it_says(pgq: PgQueue, db: Connection) -> None:
    async def shrink(path: str) -> int:
        return len(path)

    await db.execute("create table thumbnails (path text)")
    names = names_for(pgq, shrink=shrink, connection=db)
    first, block, transaction = snippets("how-to/receive.md", "python")

    await run(first, names)
    assert await names["handle"].result(timeout=60) == 5
    in_block = await pgq.enqueue_by_name("thumbnail", path="b.png", options={"queue": "images"})
    await run(block, names)
    assert await in_block.status() is JobStatus.SUCCEEDED
    await pgq.enqueue_by_name("thumbnail", path="c.png", options={"queue": "images"})
    await run(transaction, names)
    assert await db.fetchval("select path from thumbnails") == "c.png"
    assert (await pgq.get(names["job"].id)).status is JobStatus.SUCCEEDED


@pytest.mark.contract("P8.4")
async def test_the_page_on_sql_receives_and_ends_a_job(pgq: PgQueue, db: Connection) -> None:
    handle = await pgq.enqueue_by_name("thumbnail", options={"queue": "images"})
    receive, end = [code for code in snippets("reference/sql.md", "sql") if "receipt" in code]

    row = await db.fetchrow(receive)
    assert row is not None
    await db.execute(end.replace("{id}", str(row["id"])).replace("{receipt}", str(row["receipt"])))

    assert await handle.result(timeout=60) == {"width": 100}


@pytest.mark.contract("P8.4", "P8.5", "P8.8")
async def test_the_guide_from_sqs_and_lambda_does_what_it_says(pgq: PgQueue) -> None:
    shipped: list[int] = []

    async def ship(order: int) -> None:
        shipped.append(order)

    names = names_for(pgq, ship=ship, UUID=UUID)
    for code in snippets("how-to/from-sqs.md", "python"):
        await run(code, names)
    async with pgq.worker():
        await names["receipt"].result(timeout=60)
        results = [await names["rows"][number].result(timeout=60) for number in (0, 2)]
        with pytest.raises(pgqueue.JobFailed, match="no number"):
            await names["rows"][1].result(timeout=60)

    assert (shipped, results) == ([7, 8], [None, None])
