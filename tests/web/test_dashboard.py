"""The pages: what each shows, what its forms do, and that hostile texts stay texts."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import anyio
import httpx
import pytest
from kit import inside
from kit.faults import lossy_proxy
from kit.html import OWN_PAGE, Element, page_at, parse
from kit.scene import BIDI, MARKUP, allow, lively
from kit.waiting import eventually
from kit.web_client import client_of
from starlette.applications import Starlette
from starlette.routing import Mount

from pgqueue import JobStatus, PgQueue
from pgqueue.errors import ConfigurationError
from pgqueue.model.ids import new_id
from pgqueue.tasks.redaction import UNKNOWN, Parameters
from pgqueue.web import status_app
from pgqueue.web.pages.job_redrive import by_name, changes


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(status_app(pgq, authorize=allow), headers=OWN_PAGE) as client:
        yield client


async def send(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    return await client.post(f"/dashboard{path}", data=fields)


async def test_every_page_can_be_read_whatever_jobs_there_are(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    async with lively(pgq) as scene:
        for path in [
            "/",
            "/queues",
            "/workers",
            "/jobs",
            *(f"/jobs/{job.id}" for job in vars(scene).values() if hasattr(job, "id")),
            "/dead-letters",
            "/dead-letters/redrive?all=1",
            "/dead-letters/discard?all=1",
        ]:
            page = await page_at(client, path)

            assert len(page.all("h1")) == 1, path
            assert page.one("head").one("title").text.endswith("· pgqueue")
            assert page.one("a", **{"class": "skip"}).attributes["href"] == "#main"
            assert not page.all("style"), path
            assert [script.attributes["src"] for script in page.all("script")] == [
                f"/dashboard/static/{name}.js" for name in ("local", "live", "keys")
            ], path


async def test_hostile_texts_in_a_job_are_shown_as_text(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    async with lively(pgq) as scene:
        job = await page_at(client, f"/jobs/{scene.hostile.id}")
        jobs = await client.get("/dashboard/jobs", params={"key": BIDI})
        groups = await client.get("/dashboard/dead-letters")

    arguments = job.one("pre", **{"aria-label": "Arguments"})
    assert arguments.one("bdi").text == '{ "text": "' + MARKUP + '", "other": "invoice\\u202egnp.exe" }'
    assert job.one("h1").one("bdi").text == f"task {MARKUP}"
    for text in (jobs.text, groups.text):
        page = parse(text)
        assert MARKUP in page.one("main").text
        assert not page.all("img")
        assert len(page.all("script")) == 3


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


def section(page: Element, title: str) -> Element:
    """Return the section that is called *title*."""
    [found] = [each for each in page.all("section") if title in [head.text for head in each.all("h2")]]
    return found


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


async def test_a_job_is_found_by_its_id(client: httpx.AsyncClient) -> None:
    wanted = new_id()

    response = await client.get(f"/dashboard/jobs?id={wanted}")

    assert (response.status_code, response.headers["location"]) == (303, f"/dashboard/jobs/{wanted}")


async def test_without_jobs_the_pages_say_what_to_do(client: httpx.AsyncClient) -> None:
    jobs = await page_at(client, "/jobs")
    letters = await page_at(client, "/dead-letters")

    assert "No jobs yet" in jobs.one("main").text
    assert "enqueue(" in jobs.one("main").text
    assert "No dead letters" in letters.one("main").text


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


async def test_a_dead_letter_is_redriven_and_another_discarded(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    one, two = await two_failed(pgq)

    redriven = await send(client, f"/jobs/{one}/redrive", queue="default", why="mended")
    discarded = await send(client, f"/jobs/{two}/discard", why="old")
    again = await send(client, f"/jobs/{one}/discard")

    assert redriven.headers["location"] == f"/dashboard/jobs/{one}?done=redriven"
    assert discarded.headers["location"] == f"/dashboard/jobs/{two}?done=discarded"
    assert again.status_code == 409
    assert (await pgq.get(one)).status is JobStatus.PENDING
    assert (await pgq.dead_letters()).letters == []
    page = await page_at(client, f"/jobs/{two}")
    assert [form.attributes["action"] for form in page.all("form")] == [f"/dashboard/jobs/{two}/redrive"]


async def two_failed(pgq: PgQueue) -> list[UUID]:
    """Return two jobs that have failed alike."""

    @pgq.task(max_retries=0)
    async def fail(number: int) -> None:
        raise ValueError(f"number {number} is wrong")

    jobs = [await fail.enqueue(number) for number in (1, 2)]
    async with pgq.worker():
        for job in jobs:
            await pgq.wait(job.id)
    return [job.id for job in jobs]


async def failed_charge(pgq: PgQueue, *, redact: Sequence[str] = ()) -> UUID:
    """Return a job that has failed, with two arguments and one by default."""

    @pgq.task(max_retries=0, name="charge", redact=redact)
    async def charge(order: int, to: str, note: str = "") -> None:
        raise ValueError("no")

    job = await charge.enqueue(7, "ada")
    async with pgq.worker():
        await pgq.wait(job.id)
    return job.id


def filled_in(form: Element) -> dict[str, str]:
    """Return what a browser would send with *form*, its boxes unchecked."""
    fields = {
        str(each.attributes["name"]): str(each.attributes.get("value", ""))
        for each in form.all("input")
        if each.attributes["type"] != "checkbox"
    }
    # A browser drops the first line break, and this parser does not.
    texts = {str(each.attributes["name"]): "".join(map(str, each.children)) for each in form.all("textarea")}
    return fields | {name: text.removeprefix("\n") for name, text in texts.items()}


@pytest.mark.contract("P5.5")
async def test_a_dead_letter_is_redriven_with_other_arguments_after_a_preview(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    job = await failed_charge(pgq)

    page = await page_at(client, f"/jobs/{job}")
    [link] = [each for each in page.all("a") if each.text == "Edit arguments…"]
    edit = parse((await client.get(str(link.attributes["href"]))).text)
    fields = filled_in(edit.one("form"))
    given = json.dumps({"order": "8", "to": MARKUP, "note": "again"}, indent=2)
    sent = await client.post(
        str(edit.one("form").attributes["action"]), data={**fields, "arguments": given, "why": "a typo"}
    )
    preview = parse(sent.text)
    before = await pgq.get(job)
    confirm, change_again = preview.all("form")
    done = await client.post(str(confirm.attributes["action"]), data=filled_in(confirm))

    assert json.loads(fields["arguments"]) == {"order": 7, "to": "ada"}
    changes = [
        [cell.text for cell in row.all("td")]
        for row in section(preview, "Changes to the arguments").all("tr")
    ][1:]
    # As the task makes them: the order is a number.
    assert changes == [
        ["order", "changed", "7", "8"],
        ["to", "changed", '"ada"', f'"{MARKUP}"'],
        ["note", "added", "–", '"again"'],  # noqa: RUF001
    ]
    assert filled_in(change_again)["arguments"] == given
    assert (before.status, before.arguments) == (JobStatus.FAILED, {"order": 7, "to": "ada"})
    assert (done.status_code, done.headers["location"]) == (303, f"/dashboard/jobs/{job}?done=redriven")
    after = await pgq.get(job)
    assert (after.status, after.arguments) == (
        JobStatus.PENDING,
        {"order": 8, "to": MARKUP, "note": "again"},
    )
    [action] = await pgq.actions(job)
    assert (action.action, action.reason) == ("redriven", "a typo")


async def test_invalid_arguments_are_reported_at_the_form(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    job = await failed_charge(pgq)
    pgq.payload_limit = 100

    for given, status, words in [
        ("{", 422, "the text is not JSON"),
        ("[7]", 422, "the text must be a JSON object"),
        ('{"order": 7, "order": 8}', 422, "the key 'order' twice"),
        ('{"order": "x", "to": "ada"}', 422, "argument 'order': Input should be a valid integer"),
        ('{"order": 7}', 422, "argument 'to': Field required"),
        ('{"order": 7, "to": "ada", "by": 1}', 422, "argument 'by'"),
        ('{"order": 7, "to": "[redacted]"}', 422, "argument 'to' is the '[redacted]' placeholder"),
        (json.dumps({"order": 7, "to": "x" * 100}), 413, "the limit is 100"),
    ]:
        for path in (f"/jobs/{job}/redrive/preview", f"/jobs/{job}/redrive"):
            answer = await send(client, path, arguments=given, queue="default", keep_attempts="1")

            page = parse(answer.text)
            assert (answer.status_code, words in page.one("p", role="alert").text) == (status, True), given
            assert filled_in(page.one("form"))["arguments"] == given
            assert "checked" in page.one("input", name="keep_attempts").attributes
            assert page.one("textarea").attributes["aria-describedby"] == "wrong"
    too_long = await send(client, f"/jobs/{job}/redrive", arguments='{"order": 7, "to": ""}', why="x" * 501)
    wrong_queue = await send(
        client, f"/jobs/{job}/redrive/preview", arguments='{"order": 7, "to": ""}', queue=""
    )
    assert (too_long.status_code, wrong_queue.status_code) == (422, 422)
    assert (await pgq.get(job)).status is JobStatus.FAILED


async def test_redacted_arguments_cannot_be_edited(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    job = await failed_charge(pgq, redact=["to"])

    page = await page_at(client, f"/jobs/{job}")
    edit = await page_at(client, f"/jobs/{job}/redrive", status=409)
    sent = await send(client, f"/jobs/{job}/redrive", arguments='{"order": 8, "to": "eve"}')
    as_it_is = await send(client, f"/jobs/{job}/redrive", queue="default")

    assert "cannot be edited here" in page.one("details", id="do-redrive").text
    assert "Edit arguments" not in page.text
    assert "cannot be edited here" in edit.one("main").text
    assert (sent.status_code, as_it_is.status_code) == (409, 303)
    assert (await pgq.get(job)).arguments == {"order": 7, "to": "ada"}


async def test_only_what_has_failed_gets_other_arguments(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task
    async def work(number: int) -> None: ...

    job = await work.enqueue(1)

    await page_at(client, f"/jobs/{job.id}/redrive", status=409)
    sent = await send(client, f"/jobs/{job.id}/redrive", arguments='{"number": 2}')

    assert sent.status_code == 409
    assert (await pgq.get(job.id)).arguments == {"number": 1}


@pytest.mark.parametrize(
    ("stored", "parameters", "named"),
    [
        ({"a": 1}, Parameters(["a", "b"]), {"a": 1}),
        ([1, 2], Parameters(["a", "b"]), {"a": 1, "b": 2}),
        ({"*": [1], "b": 2}, Parameters(["a", "b"]), {"a": 1, "b": 2}),
        ([1, 2], Parameters(["a"]), {}),
        ({"a": 1, "more": {"b": 2}}, Parameters(["a"], named_rest="more"), {"a": 1, "b": 2}),
        ({"*": [1]}, UNKNOWN, {"*": [1]}),
        ([1], UNKNOWN, {"*": [1]}),
        ("sealed", Parameters(["a"]), {}),
    ],
)
def test_stored_arguments_are_offered_as_a_redrive_takes_them(
    stored: Any, parameters: Parameters, named: dict[str, Any]
) -> None:
    assert by_name(stored, parameters) == named


def test_what_python_takes_for_the_same_is_a_change() -> None:
    before = {"one": 1, "two": [1], "same": {"a": 1, "b": 2}, "gone": None}

    found = changes(before, {"one": True, "two": [1.0], "same": {"b": 2, "a": 1}, "new": 0})

    assert {each.name: each.kind for each in found} == {
        "one": "changed",
        "two": "changed",
        "gone": "removed",
        "new": "added",
        "same": "unchanged",
    }
    assert found[-1].name == "same"


async def test_dead_letters_are_grouped_by_error(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    jobs = await two_failed(pgq)

    groups = await page_at(client, "/dead-letters")
    [row] = [row for row in groups.all("tr") if "data-key" in row.attributes]
    group = await page_at(client, f"/dead-letters/{row.attributes['data-key']}")
    none = await page_at(client, "/dead-letters?task=other")

    assert "ValueError" in row.text
    assert row.one("strong").text == "2"
    assert {row.attributes["data-key"] for row in group.all("tr") if "data-key" in row.attributes} == set(
        map(str, jobs)
    )
    assert "number 2 is wrong" in section(group, "Latest error").text
    assert "No matching dead letters" in none.one("main").text


async def test_an_empty_group_has_a_page_that_says_so(client: httpx.AsyncClient) -> None:
    page = await page_at(client, "/dead-letters/0123abc", status=404)

    assert "Nothing left in this group" in page.one("h1").text


async def test_many_are_redriven_after_a_preview_and_a_confirmation(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    jobs = await two_failed(pgq)

    preview = await page_at(client, "/dead-letters/redrive?error_type=ValueError")
    before = await pgq.dead_letters()
    form = preview.one("form")
    fields = {
        str(each.attributes["name"]): str(each.attributes.get("value", "")) for each in form.all("input")
    }
    fields.pop("keep_attempts")
    confirmed = await client.post(str(form.attributes["action"]), data={**fields, "why": "mended"})
    progress = parse((await client.get(confirmed.headers["location"])).text)

    assert preview.one("h1").text == "Redrive 2 dead letters?"
    assert all(str(job) in preview.text for job in jobs)
    assert len(before.letters) == 2
    assert confirmed.status_code == 303
    assert "0 of 2 are pending again, at most 100/s" in progress.one("main").text
    stopped = await client.post(f"{confirmed.headers['location']}/cancel")
    assert stopped.headers["location"].endswith("?done=stopped")


async def test_what_fails_after_the_preview_is_not_discarded(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError("no")

    async with pgq.worker():
        await pgq.wait((await fail.enqueue()).id)
        preview = await page_at(client, "/dead-letters/discard?all=1")
        later = await fail.enqueue()
        await pgq.wait(later.id)

    form = preview.one("form")
    fields = {
        str(each.attributes["name"]): str(each.attributes.get("value", "")) for each in form.all("input")
    }
    confirmed = await client.post(str(form.attributes["action"]), data=fields)

    assert confirmed.headers["location"] == "/dashboard/dead-letters?done=discarded"
    assert [letter.job_id for letter in (await pgq.dead_letters()).letters] == [later.id]


@pytest.mark.parametrize("verb", ["redrive", "discard"])
async def test_bulk_actions_need_a_selection(pgq: PgQueue, client: httpx.AsyncClient, verb: str) -> None:
    await two_failed(pgq)

    unsaid = await client.get(f"/dashboard/dead-letters/{verb}")
    unseen = await send(client, f"/dead-letters/{verb}", rate="100")

    assert (unsaid.status_code, unseen.status_code) == (422, 422)
    assert len((await pgq.dead_letters()).letters) == 2


async def test_an_error_is_a_page_with_the_right_status(client: httpx.AsyncClient) -> None:
    for path, status, words in [
        ("/jobs/7", 422, "is not a job id"),
        (f"/jobs/{UUID(int=0)}", 404, "there is no job"),
        ("/nowhere", 404, "GET /dashboard/nowhere"),
        ("/jobs/%00", 422, "is not a job id"),
        (f"/redrives/{UUID(int=0)}", 404, "there is no redrive"),
        ("/dead-letters?task=%00", 422, "task contains a NUL character"),
        ("/dead-letters/abc?cursor=zzz", 422, "invalid cursor"),
    ]:
        page = await page_at(client, path, status=status)

        assert words in page.one("main").text
        assert page.all("a", href="/dashboard/jobs")


async def test_a_malformed_form_changes_nothing(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()
    path = f"/dashboard/jobs/{job.id}/cancel"
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    answers = [
        await client.post(path, json={"why": "x"}),
        await client.post(path, content=b"why=" + b"x" * 100_000, headers=form),
        await client.post(path, content=b"why=%ff", headers=form),
        await client.post(path, content=b"why=%00", headers=form),
        await client.post(path, data={"why": "x" * 501}),
        await client.get(path),
    ]

    assert [each.status_code for each in answers] == [415, 413, 422, 422, 422, 405]
    assert all(each.headers["content-type"].startswith("text/html") for each in answers)
    assert await job.status() is JobStatus.PENDING


async def test_nothing_is_changed_without_permission(pgq: PgQueue) -> None:
    one, _ = await two_failed(pgq)

    async with client_of(status_app(pgq, local_reading=True), headers=OWN_PAGE) as client:
        answers = [
            await send(client, f"/jobs/{one}/redrive"),
            await send(client, f"/jobs/{one}/discard"),
            await send(client, "/dead-letters/discard", failed_before="2030-01-01T00:00+00:00"),
        ]

    assert [each.status_code for each in answers] == [403] * 3
    assert parse(answers[0].text).one("h1").text == "Not allowed"
    assert len((await pgq.dead_letters()).letters) == 2


async def test_another_owners_job_is_not_found(pgq: PgQueue) -> None:
    one, two = await two_failed(pgq)
    app = status_app(pgq, authorize=allow, owns=lambda _, job: job.id == one, actor=lambda _: "ann")

    async with client_of(app, headers=OWN_PAGE) as client:
        mine = await page_at(client, f"/jobs/{one}")
        await page_at(client, f"/jobs/{two}", status=404)
        jobs = await client.get("/dashboard/jobs")
        theirs = await send(client, f"/jobs/{two}/discard")
        many = await send(client, "/dead-letters/discard", failed_before="2030-01-01T00:00+00:00")
        preview = await client.get("/dashboard/dead-letters/discard?all=1")

    assert mine.one("h1").text == "fail"
    assert str(one) in jobs.text
    assert str(two) not in jobs.text
    assert (theirs.status_code, many.status_code, preview.status_code) == (404, 403, 403)
    assert len((await pgq.dead_letters()).letters) == 2


async def test_links_lead_to_where_the_app_is_mounted(pgq: PgQueue) -> None:
    outer = Starlette(routes=[Mount("/ops/queue", app=status_app(pgq, authorize=allow))])
    job = await pgq.enqueue_by_name("unknown")

    async with client_of(outer, headers=OWN_PAGE) as client:
        home = await client.get("/ops/queue/")
        page = parse((await client.get("/ops/queue/dashboard/jobs")).text)
        posted = await client.post(f"/ops/queue/dashboard/jobs/{job.id}/cancel")
        style = await client.get(str(page.all("link", rel="stylesheet")[0].attributes["href"]))

    assert home.headers["location"] == "/ops/queue/dashboard/"
    links = [str(link.attributes["href"]) for link in page.all("a")]
    assert all(link.startswith(("/ops/queue/dashboard/", "#")) for link in links)
    assert page.one("body").attributes["data-events"] == "/ops/queue/events"
    assert posted.headers["location"].startswith("/ops/queue/dashboard/jobs/")
    assert style.status_code == 200


async def test_files_are_sent_once(client: httpx.AsyncClient) -> None:
    for name, kind in [
        ("style.css", "text/css"),
        ("local.js", "text/javascript"),
        ("keys.js", "text/javascript"),
        ("live.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ]:
        first = await client.get(f"/dashboard/static/{name}")
        second = await client.get(
            f"/dashboard/static/{name}", headers={"If-None-Match": f'"x", {first.headers["etag"]}'}
        )

        assert first.headers["content-type"].startswith(kind)
        assert (first.status_code, second.status_code, second.content) == (200, 304, b"")


async def test_an_instance_shows_its_name_and_colour(pgq: PgQueue) -> None:
    async with client_of(
        status_app(pgq, local_reading=True, name="Staging <1>", colour="#ffd400"), headers=OWN_PAGE
    ) as client:
        page = await page_at(client, "/jobs")
        style = await client.get("/dashboard/static/instance.css")

    assert page.one("div", **{"class": "band-inner"}).text == "Instance: Staging <1> read-only"
    assert style.text == ":root { --band: #ffd400; --on-band: #111111; }\n"


async def test_without_jinja2_there_is_no_dashboard(pgq: PgQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)

    async with client_of(status_app(pgq, local_reading=True), headers=OWN_PAGE) as client:
        response = await client.get("/dashboard/jobs")
    with pytest.raises(ConfigurationError, match=r"pip install 'pgqueue-asyncio\[web\]'"):
        status_app(pgq, local_reading=True, dashboard=True)

    assert response.status_code == 404


async def test_a_dashboard_can_be_left_out(pgq: PgQueue) -> None:
    async with client_of(status_app(pgq, local_reading=True, dashboard=False), headers=OWN_PAGE) as client:
        response = await client.get("/dashboard/jobs")

    assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


async def test_an_unavailable_database_is_a_page_too(dsn: str) -> None:
    async with lossy_proxy(dsn) as proxy:
        pgq = PgQueue(proxy.dsn, connect_timeout=0.2)
        await pgq.open()
    try:
        async with client_of(status_app(pgq, local_reading=True), headers=OWN_PAGE) as client:
            page = await page_at(client, "/jobs", status=503)
    finally:
        await pgq.close()

    assert page.one("h1").text == "Temporarily unavailable"


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


def cell(row: Element, label: str) -> str:
    """Return what stands in the column that is called *label*."""
    return row.one("td", **{"data-label": label}).text


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
