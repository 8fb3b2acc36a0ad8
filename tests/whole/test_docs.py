"""What the documentation shows works: its Python is run, in its order."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from kit.snippets import PAGES, ROOT, imported, run, snippets, snippets_in
from kit.waiting import eventually

import pgqueue
from pgqueue import JobStatus, PgQueue

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


PUBLIC = frozenset(
    {
        "pgqueue",
        *(
            f"pgqueue.{name}"
            for name in (
                "blocking", "embedded", "errors", "events", "logs", "metrics", "retry", "testing", "web",
            )
        ),
    }
)  # fmt: skip
"""What programs import: files at the top of the package, and the packages that list their names."""

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
