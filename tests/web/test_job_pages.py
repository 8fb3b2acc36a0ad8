"""The pages of jobs: what they show, how jobs are found, and what their forms do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from kit.html import OWN_PAGE, Element, page_at, parse, section
from kit.scene import BIDI, allow, lively
from kit.web_client import client_of

from pgqueue import JobStatus, PgQueue
from pgqueue.model.ids import new_id
from pgqueue.web import status_app


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(status_app(pgq, authorize=allow), headers=OWN_PAGE) as client:
        yield client


async def send(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    return await client.post(f"/dashboard{path}", data=fields)


async def test_the_page_of_a_job_tells_its_story(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    async with lively(pgq) as scene:
        failed = await page_at(client, f"/jobs/{scene.failed.id}")
        retrying = await page_at(client, f"/jobs/{scene.retrying.id}")
        running = await page_at(client, f"/jobs/{scene.running.id}")
        cancelled = await page_at(client, f"/jobs/{scene.cancelled.id}")
        succeeded = await page_at(client, f"/jobs/{scene.succeeded.id}")

    assert failed.one("h1").text == "charge_card"
    assert "gateway answered 502" in section(failed, "Error").text
    assert "attempt 1: exception" in section(failed, "Timeline").text
    assert "Traceback" not in failed.text
    assert "TimeoutError" in section(retrying, "Latest error").text
    assert "waiting: scheduled" in section(retrying, "Timeline").text
    assert running.one("progress").attributes["value"] == "68"
    assert "Revenue by region" in section(running, "Progress").text
    assert "cancelled ada a duplicate" in section(cancelled, "Operator actions").text
    assert "accepted" in section(succeeded, "Result").text
    assert {link.text for link in succeeded.all("a", **{"class": "tag"})} == {"customer:42", "invoice"}


async def test_a_job_offers_the_actions_of_its_status(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    async with lively(pgq, mails=0) as scene:
        offered = {
            "pending": (scene.pending, {"cancel", "reprioritise"}),
            "scheduled": (scene.scheduled, {"cancel", "reprioritise", "run"}),
            "running": (scene.running, {"cancel"}),
            "failed": (scene.failed, {"redrive", "discard"}),
            "cancelled": (scene.cancelled, {"requeue"}),
            "succeeded": (scene.succeeded, {"requeue"}),
        }
        for status, (job, expected) in offered.items():
            page = await page_at(client, f"/jobs/{job.id}")

            actions = {str(form.attributes["action"]).rpartition("/")[2] for form in page.all("form")}
            assert page.one("p", **{"class": "lead row"}).one("span", role="status").text == status
            assert actions == expected
            assert all(form.attributes["method"] == "post" for form in page.all("form"))


async def test_a_traceback_is_shown_only_if_the_app_allows_it(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError("no")

    job = await fail.enqueue()
    async with pgq.worker():
        await pgq.wait(job.id)

    async with client_of(status_app(pgq, local_reading=True), headers=OWN_PAGE) as client:
        hidden = await page_at(client, f"/jobs/{job.id}")
    async with client_of(
        status_app(pgq, local_reading=True, show_tracebacks=True), headers=OWN_PAGE
    ) as client:
        shown = await page_at(client, f"/jobs/{job.id}")

    assert not hidden.all("pre", **{"aria-label": "Traceback"})
    assert "raise ValueError" in shown.all("pre", **{"aria-label": "Traceback"})[0].text


async def test_arguments_that_are_redacted_are_not_shown(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task(redact=["card"])
    async def charge(order: int, card: str) -> None: ...

    job = await charge.enqueue(7, "4111 1111 1111 1111")

    page = await client.get(f"/dashboard/jobs/{job.id}")

    assert "[redacted]" in page.text
    assert "4111" not in page.text


@pytest.mark.contract("P4.13")
async def test_jobs_are_found_by_what_the_form_asks_for(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task(queue="mail")
    async def send(to: str) -> None: ...

    @pgq.task(queue="reports")
    async def build() -> None: ...

    one = await send.options(tags=["red"], key="a").enqueue("a")
    two = await send.options(delay=60).enqueue("b")
    three = await build.enqueue()

    async def found(**query: str) -> list[UUID]:
        page = parse((await client.get("/dashboard/jobs", params=query)).text)
        return [UUID(row.attributes["data-key"]) for row in page.all("tr") if "data-key" in row.attributes]

    assert await found() == [three.id, two.id, one.id]
    assert await found(queue="mail") == [two.id, one.id]
    assert await found(status="scheduled") == [two.id]
    assert await found(task="build") == [three.id]
    assert await found(tag="red") == [one.id]
    assert await found(key="a", queue="", task="", created_after="2020-01-01T00:00") == [one.id]
    assert await found(created_before="2020-01-01T00:00") == []
    assert await found(search='"TO":"A') == [one.id]
    await pgq.cancel(one.id)
    assert await found(finished="hour") == await found(finished_after="2020-01-01T00:00") == [one.id]
    assert await found(created="day", queue="mail", status="scheduled") == [two.id]
    counted = parse((await client.get("/dashboard/jobs?queue=mail&status=failed")).text)
    choices = [each.text for each in counted.one("fieldset").all("label")]
    assert choices[:2] == ["pending 0", "scheduled 1"]
    assert "cancelled 1" in choices


async def test_the_filter_form_keeps_its_values(client: httpx.AsyncClient) -> None:
    page = await page_at(
        client, "/jobs?status=failed&status=running&queue=%3Cb%3E&created_after=2026-01-01T10:00"
    )

    checked = [
        box.attributes["value"] for box in page.all("input", name="status") if "checked" in box.attributes
    ]
    assert checked == ["running", "failed"]
    assert page.one("input", name="queue").attributes["value"] == "<b>"
    assert page.one("input", name="created_after").attributes["value"] == "2026-01-01T10:00"
    assert "No matching jobs" in page.one("main").text


@pytest.mark.contract("P4.13")
async def test_pages_of_jobs_lead_on_and_back(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task
    async def work(number: int) -> None: ...

    await pgq.enqueue_many(work.s(number) for number in range(170))

    async def follow(link: str) -> tuple[list[str | None], Element]:
        page = parse((await client.get(link)).text)
        return [row.attributes["data-key"] for row in page.all("tr") if "data-key" in row.attributes], page

    def link(page: Element, rel: str) -> str:
        return str(page.one("a", rel=rel).attributes["href"])

    found, page = await follow("/dashboard/jobs?task=work")
    there = [found]
    while page.all("a", rel="next"):
        found, page = await follow(link(page, "next"))
        there.append(found)
    back = [found]
    while page.all("a", rel="prev"):
        found, page = await follow(link(page, "prev"))
        back.append(found)

    assert [len(each) for each in there] == [50, 50, 50, 20]
    assert len({job for each in there for job in each}) == 170
    assert back == there[::-1]


async def test_a_list_shows_arguments_in_one_bounded_line_without_secrets(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task(redact=["card"])
    async def charge(order: int, card: str, note: str = "") -> None: ...

    await charge.enqueue(7, card="4111", note="<b>" + BIDI + "x" * 10_000)
    await pgq.enqueue_by_name("elsewhere", "a", {"b": [1]}, flag=None)

    page = await page_at(client, "/jobs")

    elsewhere, charged = [each.text for each in page.all("span", title="Arguments")]
    assert elsewhere == '"a", {"b": [1]}, flag=null'
    assert charged.startswith('order=7, card="[redacted]", note="<b>')
    assert charged.endswith("x…")
    assert BIDI not in charged
    assert "4111" not in page.text
    assert len(charged) < 250


async def test_an_invalid_filter_is_reported_above_the_form(client: httpx.AsyncClient) -> None:
    for query in [
        "status=lost",
        "created_after=yesterday",
        "created_after=2026-01-02T00:00&created_before=2026-01-01T00:00",
        "cursor=zzz",
        "id=7",
        "colour=red",
        "finished=year",
        "search=%00",
        "queue=%00",
    ]:
        page = await page_at(client, f"/jobs?{query}", status=422)

        assert "Invalid filter." in page.one("p", role="alert").text
        assert page.one("form").attributes["method"] == "get"
        # No card with nothing in it where the list would be.
        assert page.all("h2", id="list-title") == []


async def test_a_job_is_found_by_its_id(client: httpx.AsyncClient) -> None:
    wanted = new_id()

    response = await client.get(f"/dashboard/jobs?id={wanted}")

    assert (response.status_code, response.headers["location"]) == (303, f"/dashboard/jobs/{wanted}")


async def test_cancelling_is_a_form_that_leads_back(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()

    first = await send(client, f"/jobs/{job.id}/cancel", why="not needed")
    second = await send(client, f"/jobs/{job.id}/cancel")

    assert (first.status_code, first.headers["location"]) == (303, f"/dashboard/jobs/{job.id}?done=cancelled")
    assert second.headers["location"] == f"/dashboard/jobs/{job.id}?done=over"
    [action] = await pgq.actions(job.id)
    assert (action.action, action.reason, action.actor) == ("cancelled", "not needed", "dashboard")
    page = await page_at(client, f"/jobs/{job.id}?done=cancelled")
    assert "Cancelled" in page.one("p", **{"class": "notice done"}).text


async def test_a_waiting_job_gets_another_priority_and_an_ended_one_runs_again(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()

    changed = await send(client, f"/jobs/{job.id}/reprioritise", priority="7")
    wrong = await send(client, f"/jobs/{job.id}/reprioritise", priority="high")
    await pgq.cancel(job.id)
    requeued = await send(client, f"/jobs/{job.id}/requeue")

    assert (changed.status_code, wrong.status_code, requeued.status_code) == (303, 422, 303)
    shown = await pgq.get(job.id)
    assert (shown.priority, shown.status) == (7, JobStatus.PENDING)
