"""Many jobs at once, on the pages and over HTTP: a preview, what is done, and what is said of the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from kit.dead import fail_jobs
from kit.html import OWN_PAGE, Element, page_at, parse
from kit.scene import allow
from kit.web_client import client_of

from pgqueue import JobFilter, JobHandle, PgQueue
from pgqueue.model.filters import Found
from pgqueue.web import status_app
from pgqueue.web.pages import jobs as jobs_page


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(status_app(pgq, authorize=allow), headers=OWN_PAGE) as client:
        yield client


async def enqueued(pgq: PgQueue, count: int, task: str = "work") -> list[JobHandle[Any]]:
    return [await pgq.enqueue_by_name(task, {"number": number}) for number in range(count)]


def hidden_in(page: Element) -> dict[str, str]:
    """Return the fields of the form that confirms."""
    form = page.one("form", method="post")
    return {
        str(each.attributes["name"]): str(each.attributes["value"])
        for each in form.all("input", type="hidden")
    }


async def confirm(client: httpx.AsyncClient, fields: dict[str, str]) -> str:
    answer = await client.post("/dashboard/jobs/bulk", data={**fields, "why": "wrong batch"})
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def end_of(pgq: PgQueue, client: httpx.AsyncClient, location: str) -> str:
    """Have workers do it; return what its page says."""
    async with pgq.worker(queues=["none"]):
        await pgq.bulk_handle(location.rpartition("/")[2]).wait(60)
    return parse((await client.get(location)).text).one("main").text


@pytest.mark.contract("W24")
async def test_selected_rows_are_previewed_and_what_changed_meanwhile_is_said(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    jobs = await enqueued(pgq, 3)
    [over] = await enqueued(pgq, 1)
    await over.cancel()
    page = await page_at(client, "/jobs")
    form = page.one("form", **{"class": "bulk"})
    boxes = [str(each.attributes["value"]) for each in form.all("input", name="id")]
    assert boxes == [str(job.id) for job in [over, *jobs[::-1]]]
    picked = "&".join(f"id={each}" for each in boxes[:3])

    preview = await page_at(client, f"/jobs/bulk?verb=cancel&filter=&{picked}")
    assert preview.one("h1").text == "Cancel 2 jobs?"
    assert "but for 1 that cannot be changed as it is" in preview.one("main").text
    await jobs[2].cancel()
    location = await confirm(client, hidden_in(preview))
    again = await confirm(client, hidden_in(preview))
    said = await end_of(pgq, client, location)

    assert again == location
    assert "1 cancelled or asked to stop; the preview counted 2." in said
    assert "2 had changed meanwhile" in said
    statuses = [await job.status() for job in jobs]
    assert statuses == ["pending", "cancelled", "cancelled"]
    [action] = await pgq.actions(jobs[1].id)
    assert (action.actor, action.reason) == ("dashboard", "wrong batch")


@pytest.mark.contract("W24")
async def test_all_that_the_filter_finds_is_changed_but_not_what_came_after_the_preview(
    pgq: PgQueue, client: httpx.AsyncClient, db: Any
) -> None:
    failed = [pgq.handle(each) for each in await fail_jobs(db, 60)]
    page = await page_at(client, "/jobs?status=failed&created=day")
    filter_ = page.one("form", **{"class": "bulk"}).one("input", name="filter").attributes["value"]
    assert filter_ == "status=failed&created=day"

    preview = await page_at(
        client, f"/jobs/bulk?{httpx.QueryParams(verb='requeue', all='1', filter=str(filter_))}"
    )
    [late] = [pgq.handle(each) for each in await fail_jobs(db, 1)]
    said = await end_of(pgq, client, await confirm(client, hidden_in(preview)))

    assert preview.one("h1").text == "Retry 60 jobs?"
    assert "The newest 50" in preview.text
    assert "60 pending again; the preview counted 60." in said
    assert {await job.status() for job in failed} == {"pending"}
    assert await late.status() == "failed"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("verb=delete&all=1", "verb must be one of cancel, requeue, discard, got 'delete'"),
        ("verb=cancel", "cancel: select jobs first, or all that the filter finds"),
        ("verb=cancel&id=7", "'7' is not a job id"),
        ("verb=cancel&all=1&filter=colour%3Dred", "unknown field 'colour'"),
        ("verb=cancel&all=1&filter=status%3Dfailed", "the filter selects none of these statuses"),
        ("verb=requeue&" + "&".join(f"id={uuid4()}" for _ in range(51)), "select at most 50 jobs"),
    ],
)
async def test_what_cannot_be_meant_is_said_and_nothing_is_begun(
    pgq: PgQueue, client: httpx.AsyncClient, db: Any, query: str, said: str
) -> None:
    page = await page_at(client, f"/jobs/bulk?{query}", status=422)
    without_preview = await client.post("/dashboard/jobs/bulk", data={"verb": "cancel", "all": "1"})

    assert said in page.text
    assert without_preview.status_code == 422
    assert "open the preview first" in without_preview.text
    assert await db.fetchval("select count(*) from pgqueue.bulk") == 0


async def test_one_that_is_under_way_is_stopped(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    await enqueued(pgq, 1)
    preview = await page_at(client, "/jobs/bulk?verb=cancel&all=1&filter=")
    location = await confirm(client, hidden_in(preview))

    stopped = await client.post(f"{location}/cancel")
    page = parse((await client.get(stopped.headers["location"])).text)

    assert "every job that can be changed in this way" in preview.text
    assert "Stopped. Jobs that were changed by then stay so." in page.text
    assert not page.all("button", type="submit")
    assert (await client.get(f"/dashboard/bulk/{uuid4()}")).status_code == 404


@pytest.mark.contract("W24")
async def test_programs_begin_and_follow_them_over_http(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    jobs = await enqueued(pgq, 2)
    body = {"verb": "cancel", "filter": {"search": '"number":1'}, "reason": "twice", "expected": 1}

    begun = await client.post("/bulk", json=body)
    listed = await client.post("/bulk", json={"verb": "discard", "ids": [str(jobs[0].id)]})
    stopped = await client.post(f"{listed.headers['location']}/cancel", json={})
    twice = await client.post(f"{listed.headers['location']}/cancel", json={})
    async with pgq.worker(queues=["none"]):
        await pgq.bulk_handle(begun.json()["bulk_id"]).wait(60)
    done = (await client.get(begun.headers["location"])).json()

    assert (begun.status_code, begun.json()["state"]) == (202, "running")
    assert (done["state"], done["found"], done["done"], done["expected"]) == ("done", 1, 1, 1)
    assert [await job.status() for job in jobs] == ["pending", "cancelled"]
    assert (stopped.status_code, stopped.json()["state"], twice.status_code) == (200, "cancelled", 409)
    empty = await client.post("/bulk", json={"verb": "cancel"})
    assert empty.status_code == 422
    assert "an empty filter matches every job" in empty.text


def tallies(page: Element) -> dict[str, str]:
    """Return the counts beside the statuses that are not 0."""
    said = {
        str(each.one("input").attributes["value"]): each.one("span", **{"class": "tally"}).text
        for each in page.one("fieldset").all("label")
    }
    return {status: count for status, count in said.items() if count != "0"}


@pytest.mark.contract("W24")
@pytest.mark.parametrize("has_index", [False, True])
async def test_counts_are_of_what_one_owns_and_what_a_search_finds(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch, has_index: bool
) -> None:
    if has_index:
        await pgq.index_owners()
    for owner, count in (("ann", 4), ("bob", 3)):
        for number in range(count):
            job = await pgq.enqueue_by_name("work", {"number": number}, options={"headers": {"owner": owner}})
            if number == 1:
                await job.cancel()
    app = status_app(pgq, authorize=allow, owner_header=True, actor=lambda request: request.headers["who"])
    async with (
        client_of(app, headers={"who": "ann"}) as ann,
        client_of(status_app(pgq, authorize=allow)) as everybody,
    ):
        own = tallies(await page_at(ann, "/jobs?status=cancelled"))
        found = tallies(await page_at(ann, "/jobs?search=%22number%22:1"))
        of_all = tallies(await page_at(everybody, "/jobs?search=%22number%22:1&status=pending"))
        none = tallies(await page_at(everybody, "/jobs?search=nothing"))
        monkeypatch.setattr(jobs_page, "COUNTED", 2)
        bounded = tallies(await page_at(everybody, "/jobs?search=number&status=pending"))

    assert own == {"pending": "3", "cancelled": "1"}
    assert found == {"cancelled": "1"}
    assert of_all == {"cancelled": "2"}
    assert none == {}
    # One of the two newest waits; there may be more, of whatever status, and who is not seen may be there.
    assert (bounded["pending"], bounded["cancelled"], bounded["failed"]) == ("1+", "1+", "?")


async def test_what_was_not_found_among_the_newest_is_not_said_to_be_none(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def job_ids(self: PgQueue, chosen: JobFilter, **_: Any) -> Found:
        return Found([], is_more=True)

    monkeypatch.setattr(PgQueue, "job_ids", job_ids)
    async with client_of(status_app(pgq, authorize=allow)) as client:
        page = await page_at(client, "/jobs/bulk?verb=cancel&all=1&filter=queue%3Dmail")

    assert page.one("h1").text == "Cancel jobs?"
    assert "there are more than could be looked at" in page.one("main").text


async def test_where_jobs_have_owners_only_who_may_change_all_of_them_may_change_many(pgq: PgQueue) -> None:
    app = status_app(
        pgq, authorize=allow, owns=lambda request, job: True, actor=lambda request: "ann", token="t" * 16
    )
    await enqueued(pgq, 1)
    async with client_of(app, headers=OWN_PAGE) as ann:
        page = await page_at(ann, "/jobs")
        refused = [
            (await ann.get("/dashboard/jobs/bulk?verb=cancel&all=1")).status_code,
            (await ann.post("/dashboard/jobs/bulk", data={"verb": "cancel"})).status_code,
            (await ann.post("/bulk", json={"verb": "cancel", "all": True})).status_code,
            (await ann.get(f"/bulk/{uuid4()}")).status_code,
            (await ann.get("/jobs/counts")).status_code,
        ]

    assert refused == [403] * 5
    assert not page.all("form", **{"class": "bulk"})
