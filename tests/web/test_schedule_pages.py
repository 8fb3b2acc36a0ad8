"""The pages of schedules: the list, one with its history and its buttons, and the form that changes it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime
from html import unescape
from urllib.parse import quote_plus

import httpx
import pytest
from kit.scene import MARKUP, allow
from kit.web_client import client_of
from starlette.requests import Request

from pgqueue import PgQueue
from pgqueue.web import status_app

OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
NAME = f"../a&b {MARKUP}\n"
SHOW = f"/schedules/show?name={quote_plus(NAME)}"
EDIT = f"/schedules/edit?name={quote_plus(NAME)}"

pytestmark = pytest.mark.contract("P8.10")


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    @pgq.task(name="report", queue="reports")
    async def report(day: int, tick: datetime | None = None) -> None: ...

    async with client_of(status_app(pgq, authorize=allow), headers=OWN_PAGE) as client:
        yield client


async def page_at(client: httpx.AsyncClient, path: str, *, status: int = 200) -> str:
    response = await client.get(f"/dashboard{path}")
    assert response.status_code == status, response.text
    assert response.headers["cache-control"] == "no-store"
    assert MARKUP not in response.text
    return response.text


async def create(client: httpx.AsyncClient, **fields: str) -> str:
    response = await client.post("/dashboard/schedules/new", data=fields)
    assert response.status_code == 303, response.text
    return str(response.headers["location"].rpartition("done=")[2])


async def send(client: httpx.AsyncClient, what: str, name: str | None = None, **fields: str) -> str:
    """Send a form; return the word that the page after it says. *name*: in the address."""
    query = {} if name is None else {"name": name}
    response = await client.post(f"/dashboard/schedules/{what}", params=query, data=fields)
    assert response.status_code == 303, response.text
    address = response.headers["location"]
    assert (await client.get(address)).status_code == 200, address
    return str(address.rpartition("done=")[2])


def fields_of(page: str) -> dict[str, str]:
    """Return the inputs of a page's form, as a browser without changes sends them."""
    found = dict(re.findall(r'<input type="text"[^>]* name="(\w+)" value="([^"]*)"', page))
    for name, options in re.findall(r'<select id="[^"]*" name="(\w+)">(.*?)</select>', page):
        [found[name]] = re.findall(r'value="([^"]*)" selected', options)
    return {name: unescape(value) for name, value in found.items()}


async def test_a_schedule_is_made_looked_at_and_operated(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    assert "No schedules yet" in await page_at(client, "/schedules")
    form = fields_of(await page_at(client, "/schedules/new"))
    form |= {"name": NAME, "every": "3600", "task": "report", "arguments": '{"day": 7}', "overlap": "skip"}

    assert await create(client, **{**form, "why": "asked for"}) == "schedule_made"
    listed = await page_at(client, "/schedules")
    assert f"/dashboard{SHOW}" in listed
    assert "has not ticked yet" in listed
    made = await pgq.schedules.get(NAME)
    assert (made.actor, made.reason, made.queue) == ("dashboard", "asked for", "reports")

    assert await send(client, "run", NAME) == "schedule_ran"
    assert await send(client, "run", NAME) == "schedule_skipped"
    [skipped, ran] = await pgq.schedules.history(NAME)
    shown = await page_at(client, SHOW)
    assert len(re.findall(r"<li><time", shown)) == 5
    assert "made no job: the one before had not ended" in shown
    assert (skipped.job_id, f"/dashboard/jobs/{ran.job_id}" in shown) == (None, True)
    assert "its job: pending" in await page_at(client, "/schedules")

    assert await send(client, "pause", NAME, why="a leak") == "schedule_paused"
    assert await send(client, "pause", NAME) == "nothing"
    shown = await page_at(client, SHOW)
    assert ("a leak" in shown, "schedules/resume" in shown, "schedules/pause" in shown) == (True, True, False)
    assert await send(client, "resume", NAME) == "schedule_resumed"
    assert await send(client, "delete", NAME) == "schedule_deleted"
    assert await send(client, "delete", NAME) == "nothing"
    assert "there is no schedule" in await page_at(client, SHOW, status=404)


async def test_the_form_changes_what_was_changed_in_it_and_nothing_else(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    call = pgq.signature("report", 1, options={"priority": 4, "tags": ["kept"]})
    await pgq.schedules.create("n", call, every=90.5, tick_argument="tick", jitter=1.25)
    before = await pgq.schedules.get("n")
    form = fields_of(await page_at(client, "/schedules/edit?name=n"))

    assert await send(client, "edit", "n", **form) == "nothing"
    assert await pgq.schedules.get("n") == before
    assert await send(client, "edit", "n", **{**form, "jitter": "2", "ends_at": "2999-01-31 09:00"}) == (
        "schedule_changed"
    )
    changed = await pgq.schedules.get("n")
    assert (changed.jitter, changed.every, changed.tick_argument, changed.priority) == (2, 90.5, "tick", 4)
    assert str(changed.ends_at) == "2999-01-31 09:00:00+00:00"
    assert await send(client, "edit", "n", **{**form, "every": "", "at": "2998-01-31T09:00+02:00"}) == (
        "schedule_changed"
    )
    changed = await pgq.schedules.get("n")
    assert (changed.every, str(changed.at)) == (None, "2998-01-31 07:00:00+00:00")

    form = fields_of(await page_at(client, "/schedules/edit?name=n"))
    new = {"has_call": "1", "arguments": '{"day": 9}', "tick_argument": "", "queue": "", "priority": "5"}
    assert await send(client, "edit", "n", **{**form, **new}) == "schedule_changed"
    assert await send(client, "run", "n") == "schedule_ran"
    [tick] = await pgq.schedules.history("n")
    assert tick.job_id is not None
    job = await pgq.get(tick.job_id)
    assert (job.arguments["day"], job.priority, job.queue) == (9, 5, "reports")


async def test_invalid_input_is_explained_and_kept_and_changes_nothing(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    good = {"name": "n", "every": "60", "task": "report", "arguments": "[1]", "cron": ""}
    assert await create(client, **good) == "schedule_made"
    before = await pgq.schedules.get("n")

    for change in (
        {"name": "n"},
        {"name": ""},
        {"every": ""},
        {"every": "soon"},
        {"every": "nan"},
        {"every": "", "cron": MARKUP},
        {"every": "", "at": "noon"},
        {"every": "", "at": "2020-01-01"},
        {"starts_at": "9999-12-31T23:59:59-23:59"},
        {"timezone": "Mars"},
        {"misfire": "never"},
        {"jitter": "-1"},
        {"catch_up": ""},
        {"task": ""},
        {"task": "unknown"},
        {"arguments": "7"},
        {"arguments": "{"},
        {"arguments": '["x"]'},
        {"tick_argument": "nothing"},
        {"priority": "high"},
        {"why": "x" * 501},
    ):
        response = await client.post("/dashboard/schedules/new", data={**good, "name": "other", **change})
        assert response.status_code == 422, change
        assert "Invalid input" in response.text, change
        assert MARKUP not in response.text
        assert 'value="report"' in response.text or "task" in change, change
    edits = ({"every": "soon"}, {"tick_argument": "tick"}, {"has_call": "1", "task": "unknown"})
    for change in edits:
        response = await client.post("/dashboard/schedules/edit?name=n", data={**good, **change})
        assert response.status_code == 422, change
    assert await pgq.schedules.list() == [before]
    for path in ("", "?name=", "?name=%00"):
        await page_at(client, f"/schedules/show{path}", status=422)
        await page_at(client, f"/schedules/edit{path}", status=422)
    for what in ("pause", "resume", "run", "delete"):
        assert (await client.post(f"/dashboard/schedules/{what}")).status_code == 422, what
    assert (await client.post("/dashboard/schedules/edit?name=x", data={})).status_code == 404


async def test_lists_have_pages_and_states(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    for number in range(26):
        await pgq.schedules.create(f"s&{number:02}", pgq.signature("report", 1), every=60)
    await pgq.schedules.pause("s&00")

    first = await page_at(client, "/schedules")
    [more] = re.findall(r'rel="next" href="/dashboard([^"]+)"', first)
    second = await page_at(client, more.replace("&amp;", "&"))

    assert (len(re.findall('<tr data-key="', first)), len(re.findall('<tr data-key="', second))) == (25, 1)
    assert (first.count('class="badge paused"'), first.count('class="badge alive"')) == (1, 24)


async def test_each_form_asks_about_the_schedule_and_comes_from_a_page_of_the_app(pgq: PgQueue) -> None:
    asked: list[tuple[str, str]] = []

    def hook(_: Request, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return action == "read"

    await pgq.schedules.create("n", pgq.signature("report", 1), every=60)
    changes = ("new", "edit", "pause", "resume", "run", "delete")
    async with client_of(status_app(pgq, authorize=hook), headers=OWN_PAGE) as client:
        for what in changes:
            refused = await client.post(f"/dashboard/schedules/{what}?name=n", data={"name": "n"})
            assert refused.status_code == 403, what
    assert [each for each in asked if each[0] != "read"] == [
        ("configure", "schedules"),
        *((action, "schedule:n") for action in ("configure", "pause", "resume", "enqueue", "remove")),
    ]
    foreign = {"Sec-Fetch-Site": "cross-site", "Origin": "http://elsewhere"}
    async with client_of(status_app(pgq, authorize=allow), headers=foreign) as client:
        for what in changes:
            refused = await client.post(f"/dashboard/schedules/{what}?name=n", data={"name": "n"})
            assert refused.status_code == 403, what
    assert [(each.name, each.paused_at) for each in await pgq.schedules.list()] == [("n", None)]
