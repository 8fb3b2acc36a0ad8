"""What all pages share: times, the keys, and that a read-only instance has nothing to press."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from typing import get_args

import httpx
import pytest
from kit.html import OWN_PAGE, parse
from kit.scene import Scene, allow, lively
from kit.web_client import client_of
from starlette.applications import Starlette
from starlette.requests import Request

from pgqueue import JobFilter, PgQueue
from pgqueue.web import status_app
from pgqueue.web.pages.page import SECTIONS
from pgqueue.web.settings import Action

TOKEN = "correct-horse-battery"
PRESSED = re.compile(
    r'<form method="post"|<summary class="button|type="submit" class="button (?:first|danger)"'
)
"""What a reader could press to change something."""
ALSO = re.compile(r'href="[^"]*/(?:redrive|discard|new|edit|enqueue)[?"]')
"""Links to forms."""
TIME = re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}Z")
TIMED = re.compile(r'<time datetime="[^"]+"[^>]*>[^<]*</time>')


async def pages_of(pgq: PgQueue, scene: Scene) -> list[str]:
    """Make one of everything; return the pages that show it."""

    @pgq.task(name="part", limits=[pgq.limit("tenant", slots=1).by("name")], ordered_by="name")
    async def part(name: str) -> None: ...

    await part.options(delay=3600).enqueue("a")
    workflow = await part.options(delay=3600).s("b").enqueue()
    await pgq.schedules.create("nightly", pgq.signature("part", "c"), cron="0 4 * * *")
    await pgq.schedules.create("paused", pgq.signature("part", "c"), every=60)
    await pgq.schedules.pause("paused")
    many = await pgq.begin_bulk("discard", JobFilter(task="none"))
    ids = (getattr(scene, name).id for name in ("pending", "running", "failed", "succeeded", "scheduled"))
    return [
        *(path for _, _, path, _ in SECTIONS),
        *(f"/jobs/{each}" for each in (*ids, workflow.id)),
        f"/bulk/{many.id}",
        *(f"/schedules/show?name={name}" for name in ("nightly", "paused")),
        *(f"/workers/{worker.lease_id}" for worker in await pgq.list_workers()),
        *("/tasks/show?name=charge_card", "/tasks/show?name=never+heard+of"),
        *("/limits/show?name=tenant", "/limits/key?name=tenant&key=a", "/limits/ordered", "/limits/limiters"),
    ]


async def text_of(client: httpx.AsyncClient, path: str) -> str:
    response = await client.get(f"/dashboard{path}")
    assert response.status_code == 200, (path, response.text)
    return response.text


def pressed(page: str) -> list[str]:
    """Return what could be pressed in *page*, without the filters, which change nothing."""
    found = [*PRESSED.findall(page), *ALSO.findall(page)]
    searches = page.count('<form class="filter"')
    return found if len(found) > searches else []


@pytest.mark.contract("W24")
async def test_only_those_who_may_change_something_are_offered_to(pgq: PgQueue) -> None:
    apps: dict[str, Starlette] = {
        "open": status_app(pgq, open_reading=True),
        "local": status_app(pgq, local_reading=True),
        "token": status_app(pgq, open_reading=True, token=TOKEN),
        "closed to changes": status_app(pgq, authorize=allow, read_only=True),
        "hook": status_app(pgq, authorize=allow),
        "reader": status_app(pgq, authorize=lambda request, action, resource: action == "read"),
    }
    async with lively(pgq, mails=0) as scene, AsyncExitStack() as stack:
        paths = await pages_of(pgq, scene)
        clients = {name: await stack.enter_async_context(client_of(app)) for name, app in apps.items()}
        offered = {}
        for path in paths:
            for name in ("open", "local", "token", "closed to changes"):
                page = await text_of(clients[name], path)
                assert pressed(page) == [], (name, path)
                assert "read-only" in page
                assert ("log in to make changes" in page) is (name == "token")
            assert pressed(await text_of(clients["reader"], path)) == [], path
            page = await text_of(clients["hook"], path)
            assert "read-only" not in page
            offered[path] = bool(pressed(page))
        clients["token"].headers["Authorization"] = f"Bearer {TOKEN}"
        with_token = await text_of(clients["token"], "/queues")

    assert sum(offered.values()) >= 10, offered
    assert pressed(with_token)


@pytest.mark.contract("W24")
async def test_nothing_is_offered_that_would_be_refused(pgq: PgQueue) -> None:
    """Where a hook allows one thing alone, what a page has to press asks for that, and for nothing else."""
    allowed: set[str] = set()
    sent: list[str] = []

    def hook(request: Request, action: Action, resource: str) -> bool:
        # What is pressed is not to change the pages that come after it.
        if action != "read" and request.method == "POST":
            sent.append(action)
            return False
        return action == "read" or action in allowed

    offering = set()
    async with (
        lively(pgq, mails=0) as scene,
        client_of(status_app(pgq, authorize=hook), headers=OWN_PAGE) as client,
    ):
        paths = await pages_of(pgq, scene)
        for action in get_args(Action):
            allowed = {action}
            for path in paths:
                text = await text_of(client, path)
                offering |= allowed if pressed(text) else set()
                [main] = parse(text).all("main")
                links = [each.attributes["href"] or "" for each in main.all("a", **{"class": "button"})]
                verbs = [each.attributes["value"] for each in main.all("button", name="verb")]
                links += [f"/dashboard/jobs/bulk?verb={verb}&all=1&filter=" for verb in verbs]
                for link in links:
                    assert (await client.get(link)).status_code != 403, (action, path, link)
                for form in main.all("form", method="post"):
                    fields = {
                        each.attributes["name"] or "": each.attributes.get("value") or ""
                        for each in form.all("input")
                    }
                    answer = await client.post(form.attributes["action"] or "", data=fields)
                    assert (answer.status_code, sent.pop()) == (403, action), (
                        path,
                        form.attributes["action"],
                    )

    # Events are sent to jobs by programs.
    assert offering == set(get_args(Action)) - {"read", "signal"}


async def test_times_are_utc_for_eyes_and_exact_for_the_script(pgq: PgQueue) -> None:
    async with lively(pgq, mails=0) as scene, client_of(status_app(pgq, authorize=allow)) as client:
        for path in await pages_of(pgq, scene):
            page = await text_of(client, path)
            assert "<span data-zone>UTC</span>" in page
            # Each time is in an element that names it for the script.
            assert TIME.findall(TIMED.sub("", page)) == [], path


async def test_the_sheet_of_keys_says_what_the_navigation_answers_to(pgq: PgQueue) -> None:
    async with client_of(status_app(pgq, local_reading=True)) as client:
        page = await text_of(client, "/")

    keys = re.findall(r'data-go="(.)"', page)
    assert keys == [key for _, _, _, key in SECTIONS]
    assert len(set(keys)) == len(keys)
    assert re.findall(r"<kbd>g</kbd> <kbd>(.)</kbd>", page) == keys
