"""The pages of dead letters: groups, previews, and redrives with other arguments."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import httpx
import pytest
from kit.dead import two_failed
from kit.html import OWN_PAGE, Element, page_at, parse, section
from kit.scene import MARKUP, allow
from kit.web_client import client_of

from pgqueue import JobStatus, PgQueue
from pgqueue.tasks.redaction import UNKNOWN, Parameters
from pgqueue.web import status_app
from pgqueue.web.pages.job_redrive import by_name, changes


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(status_app(pgq, authorize=allow), headers=OWN_PAGE) as client:
        yield client


async def send(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    return await client.post(f"/dashboard{path}", data=fields)


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
