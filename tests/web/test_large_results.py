"""A large result is behind a link of its own: no list, no poll and no page carries it."""

from __future__ import annotations

import json
import random
import string
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx
import pytest
from kit import inside
from kit.command_line import Cli
from kit.web_client import client_of

from pgqueue import PgQueue
from pgqueue.model.jobs import LARGE_RESULT
from pgqueue.store import Store
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P6.13")

TOKEN = "sixteen-characters-or-more"


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with client_of(status_app(pgq, token=TOKEN), headers=headers) as opened:
        yield opened


async def test_a_large_result_is_behind_a_link(pgq: PgQueue, client: httpx.AsyncClient, dsn: str) -> None:
    @pgq.task
    async def write(length: int) -> str:
        return "x" * length

    lengths = {"small": 10, "at the limit": LARGE_RESULT - 2, "large": LARGE_RESULT - 1, "huge": 900_000}
    jobs = {name: await write.enqueue(length) for name, length in lengths.items()}
    async with pgq.worker():
        for job in jobs.values():
            await job.result(timeout=60)

    listed = {each["job_id"]: each for each in (await client.get("/jobs")).json()["jobs"]}
    for name, job in jobs.items():
        polled = await client.get(f"/jobs/{job.id}")
        document = polled.json()
        whole = "x" * lengths[name]
        is_shown = name in ("small", "at the limit")
        assert document["result"] == (whole if is_shown else None)
        assert listed[str(job.id)]["result"] == document["result"]
        assert document["result_size"] == lengths[name] + 2
        assert len(polled.content) < LARGE_RESULT + 2000

        alone = await client.get(f"/{document['result_url']}")
        known = {"If-None-Match": alone.headers["ETag"]}
        again = await client.get(f"/{document['result_url']}", headers=known)
        assert (alone.json(), again.status_code, again.content) == (whole, 304, b"")

        page = await client.get(f"/dashboard/jobs/{job.id}")
        file = await client.get(f"/dashboard/jobs/{job.id}/result")
        assert len(page.text) < LARGE_RESULT
        assert (f"/jobs/{job.id}/result" in page.text) != is_shown
        assert file.json() == whole
        assert file.headers["Content-Disposition"] == f'attachment; filename="result-{job.id}.json"'

    # A shell has no other address for it.
    shown = await Cli(dsn).json("job", jobs["huge"].id)
    assert shown["result"] == "x" * 900_000


async def test_lists_read_no_large_result(pgq: PgQueue, client: httpx.AsyncClient, db: Connection) -> None:
    # Neither of the long ones can be compressed; the last one has four bytes a character.
    noise = "".join(random.Random(7).choices(string.ascii_letters + "0123456789-+", k=900_000))
    wide = "".join(
        chr(each) for each in random.Random(7).choices(range(0x10000, 0x1FFFF), k=LARGE_RESULT - 2)
    )
    texts = {"small": "x", "noise": noise, "wide": wide}

    @pgq.task
    async def write(name: str) -> str:
        return texts[name]

    jobs = {name: await write.enqueue(name) for name in texts}
    async with pgq.worker():
        for job in jobs.values():
            await job.result(timeout=60)

    page = await pgq.jobs(large_results=False)
    many = await pgq.get_many([job.id for job in jobs.values()], large_results=False)
    listed = {each["job_id"]: each for each in (await client.get("/jobs")).json()["jobs"]}
    whole = {job.id: job for job in (await pgq.jobs()).jobs}

    for name, job in jobs.items():
        is_large = name == "noise"
        for short in (many[job.id], *(each for each in page.jobs if each.id == job.id)):
            assert (short.has_large_result, short.has_result) == (is_large, True)
            assert short.result == (None if is_large else texts[name])
            assert short.result_size is not None
        assert listed[str(job.id)]["result"] == (None if is_large else texts[name])
        assert listed[str(job.id)]["result_url"] == f"jobs/{job.id}/result"
        assert whole[job.id].result == texts[name]

    # What lies outside its row is 900,000 bytes, of which a block holds less than 8,192.
    sql = inside.statement(Store("pgqueue"), "read_jobs")
    more = []
    for longest in (LARGE_RESULT, None):
        touched = []
        for name in ("small", "noise"):
            arguments = [jobs[name].id], longest
            # The first one of a connection reads the catalogues, too.
            await db.fetch(sql, *arguments)
            [row] = await db.fetch(f"explain (analyze, buffers, format json) {sql}", *arguments)
            plan = json.loads(row[0])[0]["Plan"]
            touched.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
        more.append(touched[1] - touched[0])
    assert more[0] < 20
    assert more[1] >= 110


async def test_a_result_has_the_same_owner_as_its_job(pgq: PgQueue) -> None:
    @pgq.task
    async def write() -> str:
        return "x" * LARGE_RESULT

    job = await write.enqueue()
    async with client_of(status_app(pgq, token=TOKEN)) as client:
        own = {"Authorization": f"Bearer {TOKEN}"}
        early = await client.get(f"/dashboard/jobs/{job.id}/result", headers=own)
        async with pgq.worker():
            await job.result(timeout=60)
        strangers = [await client.get(f"{root}/jobs/{job.id}/result") for root in ("", "/dashboard")]

    assert early.status_code == 404
    assert [each.status_code in (303, 401) for each in strangers] == [True, True]
    assert not any("xxx" in each.text for each in strangers)
