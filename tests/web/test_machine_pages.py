"""The pages of queues, tasks and workers, and the overview of them."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import anyio
import httpx
import pytest
from kit import inside
from kit.html import OWN_PAGE, cell, page_at, section
from kit.scene import allow, lively
from kit.waiting import eventually
from kit.web_client import client_of

from pgqueue import PgQueue
from pgqueue.model.ids import new_id
from pgqueue.web import status_app


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(status_app(pgq, authorize=allow), headers=OWN_PAGE) as client:
        yield client


async def send(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    return await client.post(f"/dashboard{path}", data=fields)


async def test_the_overview_shows_how_every_queue_is(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    async with lively(pgq, mails=3):
        page = await page_at(client, "/")

    rows = {row.attributes["data-key"]: row for row in page.all("tr") if "data-key" in row.attributes}
    assert {"mail", "payments", "imports", "reports", "hostile <b>queue</b>"} <= rows.keys()
    assert cell(rows["imports"], "Pending") == "20"
    assert rows["imports"].one("span", **{"class": "badge paused"}).text == "paused"
    assert cell(rows["mail"], "Pending") == "0 1 scheduled"
    assert cell(rows["payments"], "Pending") == "0 1 to retry"
    assert cell(rows["payments"], "Failed") == "3"
    assert cell(rows["reports"], "Running") == "2"
    tiles = [tile.text for tile in page.one("ul", **{"class": "tiles"}).all("li")]
    assert "Pending 20 ready to run" in tiles
    assert "Failed 5 dead letters" in tiles
    assert "Workers 2 alive" in tiles
    assert page.one("body").attributes["data-events"] == "/events"


async def test_a_queue_shows_how_long_its_jobs_waited_and_ran(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task(queue="mail")
    async def work() -> None: ...

    jobs = [await work.enqueue() for _ in range(3)]
    before = await page_at(client, "/queues")
    async with pgq.worker():
        for job in jobs:
            await pgq.wait(job.id)
    await inside.stats(pgq).close()

    after = await page_at(client, "/queues")

    assert not before.all("figure")
    waits, runs = after.all("figure")
    assert waits.one("figcaption").text.startswith("Wait time")
    assert runs.one("figcaption").text.startswith("Run time")
    for figure in (waits, runs):
        drawn = [title.text for title in figure.all("title")]
        written = [
            f"{length.text}: {count.text}"
            for length, count in zip(figure.all("dt"), figure.all("dd"), strict=True)
        ]
        assert [each for each in drawn if not each.endswith(": 0")] == written
        assert sum(int(count.text) for count in figure.all("dd")) == 3
        assert len(figure.all("rect")) == len(drawn) + len(written)


async def test_a_queue_is_paused_and_resumed_with_a_reason(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task(queue="a/b <c>", name="work")
    async def work() -> None: ...

    await work.enqueue()

    before = await page_at(client, "/queues")
    paused = await send(client, "/queues/pause", queue="a/b <c>", why="the relay is down")
    again = await send(client, "/queues/pause", queue="a/b <c>")
    meanwhile = await page_at(client, "/queues")
    resumed = await send(client, "/queues/resume", queue="a/b <c>")

    field = before.all("input", type="hidden", name="queue", value="a/b <c>")
    assert len(field) == 1
    locations = [each.headers["location"].rpartition("?")[2] for each in (paused, again, resumed)]
    assert locations == ["done=paused", "done=nothing", "done=resumed"]
    assert "by dashboard : the relay is down" in meanwhile.one("p", **{"class": "notice"}).text
    assert meanwhile.all("form", action="/dashboard/queues/resume")
    assert not [each for each in await pgq.settings() if each.paused_at]


@pytest.mark.contract("W13")
async def test_a_queue_that_holds_nothing_is_removed(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    job = await pgq.enqueue_by_name("work", options={"queue": "a/b <c>"})

    before = await page_at(client, "/queues")
    refused = await send(client, "/queues/remove", queue="a/b <c>")
    await pgq.cancel(job.id)
    empty = await page_at(client, "/queues")
    removed = await send(client, "/queues/remove", queue="a/b <c>")
    again = await send(client, "/queues/remove", queue="a/b <c>")
    after = await page_at(client, "/queues")
    neither = await send(client, "/queues/remove", task="work")

    offered = [len(page.all("form", action="/dashboard/queues/remove")) for page in (before, empty, after)]
    # The default queue is empty from the start.
    assert offered == [1, 2, 1]
    assert (refused.status_code, neither.status_code) == (409, 422)
    locations = [each.headers["location"].rpartition("?")[2] for each in (removed, again)]
    assert locations == ["done=removed", "done=nothing"]


async def test_a_task_is_paused_and_resumed(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task(name="work")
    async def work() -> None: ...

    paused = await send(client, "/queues/pause", task="work")
    [setting] = await pgq.settings()
    resumed = await send(client, "/queues/resume", task="work")
    neither = await send(client, "/queues/pause")

    assert (setting.kind, setting.name, setting.paused_at is not None) == ("task", "work", True)
    assert [paused.status_code, resumed.status_code, neither.status_code] == [303, 303, 422]


async def test_a_worker_shows_what_it_runs(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    async with lively(pgq, mails=0) as scene:
        page = await page_at(client, "/workers")

    assert {head.text for head in page.one("main").all("h2")} == {"alpha", "beta <i>two</i>"}
    row = page.one("tr", **{"data-key": str(scene.running.id)})
    assert "build_report" in row.text
    assert cell(row, "Progress") == "42 % 68 of 160 (42 %)"


@pytest.mark.contract("W24")
async def test_the_page_of_a_worker_shows_where_it_runs_and_what(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    async with lively(pgq, mails=0) as scene:
        # Either may have claimed it.
        [holder] = [
            worker
            for worker in await pgq.list_workers()
            if scene.running.id in {job.job_id for job in worker.jobs}
        ]
        workers = await page_at(client, "/workers")
        page = await page_at(client, f"/workers/{holder.lease_id}")
        tasks = [link.text for link in section(page, "Tasks that it declares").all("a")]
        # A lease that is gone, and what never was one.
        gone = await page_at(client, f"/workers/{new_id()}", status=404)
        never = await page_at(client, "/workers/nobody", status=404)

    links = workers.one("main").all("a", **{"class": "name"})
    assert f"/dashboard/workers/{holder.lease_id}" in [link.attributes["href"] for link in links]
    details = section(page, "Details").text
    slots = f"of {holder.slots} running"
    for known in (f"Host {socket.gethostname()}", f"Process {os.getpid()}", "Version", slots, "MB"):
        assert known in details, details
    row = page.one("tr", **{"data-key": str(scene.running.id)})
    assert cell(row, "Progress") == "42 % 68 of 160 (42 %)"
    assert cell(row, "Started").endswith("Z")
    assert tasks == sorted(pgq.registry.names)
    assert "has stopped" in gone.text
    assert "has stopped" in never.text


@pytest.mark.contract("W24")
async def test_the_page_of_a_task_tells_how_its_jobs_do(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    tried: list[int] = []

    @pgq.task(name="a/b <c>", queue="mail", max_retries=1, default_retry_delay=0)
    async def work(number: int) -> None:
        tried.append(number)
        if number == 0 or (number == 1 and tried.count(1) == 1):
            raise ValueError("the relay is down")

    name = {"name": "a/b <c>"}
    jobs = await pgq.enqueue_many([work.s(number) for number in range(5)])
    await pgq.schedules.create("nightly", work.s(1), cron="0 4 * * *")
    await pgq.configure_task("a/b <c>", soft_timeout=7)
    async with pgq.worker(queues=["mail"]):
        for job in jobs:
            await pgq.wait(job.id)
        page = await page_at(client, f"/tasks/show?{urlencode(name)}")
        of_hour = await page_at(client, f"/tasks/show?{urlencode(name | {'span': 'hour'})}")
    paused = await send(client, "/queues/pause", task="a/b <c>")
    meanwhile = await page_at(client, f"/tasks/show?{urlencode(name)}")
    unknown = await page_at(client, "/tasks/show?name=never+heard+of")
    for wrong in ("", "?name=", "?name=x&span=year", "?name=" + "x" * 600):
        await page_at(client, f"/tasks/show{wrong}", status=422)

    tiles = {
        tile.one("span", **{"class": "label"}).text: tile.text
        for tile in page.all("li")
        if tile.all("span", **{"class": "label"})
    }
    assert tiles["Success rate"] == "Success rate 80 % of 5 that ended"
    assert tiles["First attempt"] == "First attempt 3 succeeded"
    assert tiles["After a retry"] == "After a retry 1 succeeded"
    assert tiles["Failed"] == "Failed 1 permanently"
    assert "ValueError the relay is down" in section(page, "Dead letters by error").text
    options = section(page, "Options").text
    assert "max_retries 1 set by the task" in options
    assert "soft_timeout 7" in options
    assert "set at run time" in options
    around = section(page, "Around it").text
    assert "nightly" in around
    assert "1 live worker declares it" in page.text
    assert of_hour.one("a", **{"aria-current": "true", "class": "choice"}).text == "Last hour"
    assert paused.status_code == 303
    assert meanwhile.all("form", action="/dashboard/queues/resume")
    assert "not declared by this process" in unknown.text


async def test_what_a_worker_runs_for_others_is_not_shown(pgq: PgQueue) -> None:
    app = status_app(
        pgq, owns=lambda _, job: job.task != "build_report", actor=lambda _: "ann", authorize_shared=allow
    )

    async with lively(pgq, mails=0), client_of(app, headers=OWN_PAGE) as client:
        page = await page_at(client, "/workers")

    assert "build_report" not in page.one("main").text
    assert {head.text for head in page.one("main").all("h2")} == {"alpha", "beta <i>two</i>"}


async def test_without_a_worker_the_pages_say_how_to_start_one(client: httpx.AsyncClient) -> None:
    overview = await page_at(client, "/")
    workers = await page_at(client, "/workers")

    assert "No worker is running." in overview.one("p", **{"class": "notice wrong"}).text
    assert "pgqueue worker" in overview.one("main").text
    assert "pgqueue worker" in workers.one("section", **{"class": "card empty"}).text


async def figures_of(client: httpx.AsyncClient, path: str) -> list[tuple[str, int]]:
    """Return the figures of a page that lead to lists: the address of the list, and the figure."""
    found = []
    for link in (await page_at(client, path)).all("a"):
        address, number = link.attributes.get("href"), re.search(r"\d+", link.text)
        if address and number and ("status=" in address or "dead-letters" in address):
            found.append((address, int(number[0])))
    return found


@pytest.mark.contract("W24")
async def test_each_figure_leads_to_a_page_that_shows_as_many(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task(queue="mail", max_retries=0)
    async def fail() -> None:
        raise ValueError

    @pgq.task(queue="mail", max_retries=1, default_retry_delay=3600)
    async def retry() -> None:
        raise ValueError

    failed = [await fail.enqueue() for _ in range(3)]
    again = await retry.enqueue()
    async with pgq.worker():
        for job in failed:
            with anyio.fail_after(60):
                await pgq.wait(job.id)

        async def is_scheduled() -> bool:
            return await again.status() == "scheduled"

        await eventually(is_scheduled)
    await pgq.discard(failed[0].id)
    await fail.options(delay=3600).enqueue()
    for _ in range(2):
        await fail.enqueue()
    await fail.options(queue="other").enqueue()

    figures = await figures_of(client, "/") + await figures_of(client, "/queues")
    for address, number in figures:
        linked = await page_at(client, address.removeprefix("/dashboard"))
        rows = [row for row in linked.all("tr") if row.attributes.get("data-key")]
        if address == "/dashboard/dead-letters":
            # In groups, each with its own number.
            assert sum(int(cell(row, "Jobs")) for row in rows) == number
        else:
            assert len(rows) == number, (address, number)

    assert {number for _, number in figures} >= {2, 3}
    assert len(figures) > 10
