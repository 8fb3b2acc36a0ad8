"""The dashboard in a real browser, over a real server, worker and database."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import anyio
import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from kit.programs import find_program
from kit.scene import MARKUP, Scene, allow, lively
from kit.waiting import eventually
from kit.web_server import serving
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Response,
    async_playwright,
    expect,
)

from pgqueue import DeadLetterFilter, JobContext, JobStatus, PgQueue, chord
from pgqueue.testing.databases import Databases
from pgqueue.web import status_app

pytestmark = [pytest.mark.outside, pytest.mark.asyncio(loop_scope="module")]

CHROMIUM = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PATIENCE = 60_000
"""Milliseconds for which the browser is waited for: a busy machine is no reason to fail."""
PAGES = ("/", "/jobs", "/workflows", "/schedules", "/limits", "/dead-letters", "/queues", "/workers")
TOKEN = "correct-horse-battery-staple"
KEY = f"key?{urlencode({'name': 'tenant', 'key': MARKUP + 'w' * 100})}"
WIDTHS = {"wide": (1400, 900), "narrow": (390, 844)}


@dataclass
class Site:
    """The scene, its addresses, and a browser to look at it with."""

    scene: Scene
    open: str
    """The dashboard of an app where everybody may do everything."""
    locked: str
    """... and of one that wants the token."""
    browser: Browser
    workflow: UUID
    """A chord of forty that waits."""
    worker: UUID
    """The lease of one that runs jobs."""


@dataclass
class Visit:
    """One person's look: a page, and whatever went wrong on it."""

    page: Page
    context: BrowserContext
    mishaps: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def watch(self) -> None:
        """Note mistakes of scripts, refusals of the content policy, failing requests, and who is asked."""

        def note(kind: str, text: str) -> None:
            self.mishaps.append(f"{kind}: {text}")

        def hear(said: ConsoleMessage) -> None:
            if said.type == "error":
                note("console", said.text)

        def judge(answer: Response) -> None:
            self.hosts.add(urlsplit(answer.url).hostname or "")
            if answer.status >= HTTPStatus.BAD_REQUEST:
                note("answer", answer.url)

        self.page.on("console", hear)
        self.page.on("response", judge)
        self.page.on("pageerror", lambda error: note("script", str(error)))
        self.page.on("dialog", lambda dialog: note("dialog", dialog.message))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(databases: Databases) -> AsyncIterator[Site]:
    chromium = find_program("chromium", "chromium")
    dsn = databases.clone()
    try:
        async with (
            async_playwright() as playwright,
            PgQueue(dsn, version="2026.11.3") as pgq,
            lively(pgq) as scene,
            serving(status_app(pgq, authorize=allow, show_tracebacks=True, name="Staging")) as address,
            serving(status_app(pgq, token=TOKEN, name="Production", colour="#8b1e3f")) as locked,
        ):
            browser = await playwright.chromium.launch(
                executable_path=chromium, args=list(CHROMIUM), timeout=PATIENCE
            )
            try:
                workflow = await waiting_workflow(pgq)
                await two_schedules(pgq)
                await jobs_at_a_limit(pgq)
                yield Site(
                    scene, f"{address}/dashboard", f"{locked}/dashboard", browser, workflow, await busy(pgq)
                )
            finally:
                await browser.close()
    finally:
        databases.drop(dsn)


async def busy(pgq: PgQueue) -> UUID:
    """Return the lease of the worker that runs most."""
    return max(await pgq.list_workers(), key=lambda worker: worker.running).lease_id


async def two_schedules(pgq: PgQueue) -> None:
    """One that has ticked, and one whose name is of the worst kind."""
    call = pgq.signature("part_of_a_workflow", 1)
    await pgq.schedules.create("nightly", call, cron="0 4 * * *", timezone="Europe/Paris", overlap="skip")
    for _ in range(2):
        await pgq.schedules.run_now("nightly")
    await pgq.schedules.create(f"{MARKUP}{'w' * 100}", call, every=3600)


async def jobs_at_a_limit(pgq: PgQueue) -> None:
    """Three, two of which wait for a limit, in a queue that nobody serves; and one of an ordered group."""
    tenant = pgq.limit("tenant", slots=1)

    @pgq.task(name="limited", queue="nobody", limits=[tenant.by("name")])
    async def limited(name: str) -> None: ...

    @pgq.task(name="in_line", queue="nobody", ordered_by="name")
    async def in_line(name: str) -> None: ...

    for _ in range(3):
        await limited.enqueue(f"{MARKUP}{'w' * 100}")
    await in_line.enqueue("a")


async def waiting_workflow(pgq: PgQueue) -> UUID:
    """Return the id of a chord of forty that starts long after every test."""

    @pgq.task(name="part_of_a_workflow")
    async def part(number: int) -> int:
        return number

    @pgq.task(name="end_of_a_workflow")
    async def end(numbers: list[int]) -> int:
        return sum(numbers)

    members = [part.options(delay=36_000).s(number) for number in range(40)]
    return (await chord(members, end.s()).enqueue()).workflow_id


@asynccontextmanager
async def visiting(
    site: Site,
    *,
    width: str = "wide",
    scheme: Literal["light", "dark"] = "light",
    scripts: bool = True,
) -> AsyncIterator[Visit]:
    """Open a fresh browser window; at the end, nothing may have gone wrong in it."""
    size = WIDTHS[width]
    context = await site.browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, java_script_enabled=scripts
    )
    context.set_default_timeout(PATIENCE)
    visit = Visit(await context.new_page(), context)
    visit.watch()
    try:
        yield visit
    finally:
        await context.close()
    assert visit.mishaps == []
    assert visit.hosts <= {"127.0.0.1"}


def shown(page: Page, text: str) -> Any:
    """Expect *text* in the page's main part."""
    return expect(page.get_by_role("main")).to_contain_text(text, timeout=PATIENCE)


def paths(site: Site) -> list[str]:
    """Return every kind of page there is."""
    scene = site.scene
    jobs = (scene.running, scene.succeeded, scene.failed, scene.hostile, scene.scheduled, scene.retrying)
    return [
        *PAGES,
        f"/workflows/{site.workflow}",
        *(f"/schedules/{each}" for each in ("new", "show?name=nightly", "edit?name=nightly")),
        *(f"/limits/{each}" for each in ("show?name=tenant", KEY, "ordered", "limiters")),
        "/jobs?status=failed&queue=payments",
        "/jobs/bulk?verb=cancel&all=1&filter=",
        f"/jobs/bulk?verb=requeue&id={scene.failed.id}&id={scene.running.id}",
        f"/jobs/{scene.scheduled.id}/edit",
        "/enqueue",
        "/enqueue?task=send_email",
        f"/workers/{site.worker}",
        *(f"/tasks/show?{urlencode({'name': name})}" for name in ("send_email", f"task {MARKUP}")),
        f"/jobs/{scene.failed.id}/redrive",
        *(f"/jobs/{job.id}" for job in jobs),
        "/dead-letters/discard?all=1",
        "/dead-letters/redrive?all=1",
    ]


# Colours do not depend on the width, nor the layout on the colours: two of the four see all of both.
@pytest.mark.parametrize(("width", "scheme"), [("wide", "light"), ("narrow", "dark")])
async def test_every_page_is_accessible(site: Site, width: str, scheme: Literal["light", "dark"]) -> None:
    """Nothing serious for axe-core, and no page that is wider than the window."""
    axe = Axe()
    found: list[str] = []

    async with visiting(site, width=width, scheme=scheme) as visit:
        for path in paths(site):
            await visit.page.goto(site.open + path)
            await expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
            answer = await axe.run(visit.page)
            found += [
                f"{path}: {each['id']}: {each['nodes'][0]['html'][:200]}"
                for each in answer.response["violations"]
                if each["impact"] in ("serious", "critical")
            ]
            excess = await visit.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            found += [f"{path}: {excess} px too wide"] if excess > 0 else []

    assert found == []


@pytest.mark.contract("P7.22")
async def test_a_workflow_is_walked_by_keyboard_and_changes_before_the_readers_eyes(site: Site) -> None:
    async with visiting(site, width="narrow") as visit:
        page = visit.page
        await page.goto(f"{site.open}/workflows/{site.workflow}")
        boxes = page.locator("svg.graph a.node")
        await expect(boxes).to_have_count(2)
        many, last = boxes.first, boxes.last
        await expect(many).to_have_accessible_name("part_of_a_workflow, 40 jobs: 40 scheduled")
        await many.focus()
        await page.keyboard.press("Tab")
        await expect(last).to_be_focused()

        await site.scene.pgq.pause_workflow(site.workflow)
        await shown(page, "paused")
        await expect(last).to_be_focused()
        await site.scene.pgq.resume_workflow(site.workflow)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("end_of_a_workflow")
        await page.get_by_role("link", name=str(site.workflow)).click()
        await expect(boxes).to_have_count(2)


@pytest.mark.contract("P8.10")
async def test_a_schedule_is_made_paused_and_deleted_by_keyboard(site: Site) -> None:
    async with visiting(site, width="narrow") as visit:
        page = visit.page
        await page.goto(f"{site.open}/schedules/new")
        await page.get_by_label("Name", exact=True).focus()
        for text in ("typed", "0 9 * * 1-5"):
            await page.keyboard.type(text)
            await page.keyboard.press("Tab")
        await page.get_by_label("Task", exact=True).fill("part_of_a_workflow")
        await page.get_by_label("Arguments").fill("[1]")
        await page.get_by_role("button", name="Make the schedule").press("Enter")
        await shown(page, "Made.")
        await expect(page.get_by_role("heading", level=1)).to_have_text("typed")
        await page.locator("#do-pause summary").press("Enter")
        await page.keyboard.press("Tab")
        await page.keyboard.type("a leak")
        await page.keyboard.press("Enter")
        await shown(page, "Paused.")
        await shown(page, "a leak")
        await page.locator("#do-delete summary").press("Enter")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await shown(page, "Deleted")


@pytest.mark.contract("P3.13")
async def test_a_limit_is_changed_by_keyboard_while_what_waits_changes(site: Site) -> None:
    pgq = site.scene.pgq
    async with visiting(site, width="narrow", scheme="dark") as visit:
        page = visit.page
        await page.goto(f"{site.open}/limits/{KEY}")
        await page.locator("tr[data-key^=waiting] a").last.click()
        await shown(page, "before it.")
        await page.get_by_role("link", name="What waits for the limit").click()
        await expect(page.get_by_role("heading", name="Let through")).to_be_visible()
        await page.goto(f"{site.open}/limits")
        await page.get_by_role("link", name="tenant").click()
        await shown(page, "2 jobs; the first came")
        await page.locator("#do-set summary").press("Enter")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Control+A")
        await page.keyboard.type("7")
        await page.evaluate("window.field = document.activeElement")
        # It grows meanwhile, and what was typed stays.
        await pgq.enqueue(pgq.signature("limited", f"{MARKUP}{'w' * 100}"))
        await shown(page, "3 jobs; the first came")
        assert await page.evaluate("[field.isConnected, field === document.activeElement, field.value]") == [
            True, True, "7",
        ]  # fmt: skip
        await page.get_by_label("Reason").fill("a hurry")
        await page.keyboard.press("Enter")
        await shown(page, "It stays so, whatever code declares.")
        await shown(page, "a hurry")
        assert (await pgq.get_limit("tenant")).slots == 7
        await page.locator("#do-reset summary").press("Enter")
        await page.get_by_role("button", name="Reset the limit").press("Enter")
        await shown(page, "as code declared it first")


async def test_a_job_changes_before_the_readers_eyes(site: Site) -> None:
    gate = anyio.Event()

    @site.scene.pgq.task(queue="mail", name="watched")
    async def watched(ctx: JobContext) -> str:
        ctx.progress(1, 4)
        await gate.wait()
        return "all done"

    async with visiting(site) as visit:
        job = await watched.options(delay=3600).enqueue()
        await visit.page.goto(f"{site.open}/jobs/{job.id}")
        await shown(visit.page, "scheduled")
        await visit.page.evaluate("window.isTheSamePage = true")

        await site.scene.pgq.cancel(job.id, reason="changed my mind", actor="ann")
        await shown(visit.page, "changed my mind")
        await site.scene.pgq.requeue(job.id)
        await expect(visit.page.get_by_role("progressbar")).to_be_visible()
        gate.set()
        await shown(visit.page, "all done")

        assert await visit.page.evaluate("window.isTheSamePage")


@pytest.mark.contract("W24")
async def test_what_a_reader_types_opens_and_selects_outlives_the_updates(site: Site) -> None:
    pgq = site.scene.pgq
    async with visiting(site) as visit:
        page = visit.page
        await page.goto(f"{site.open}/jobs")
        await page.get_by_text("By tag, key, time or id").click()
        tag = page.get_by_label("Tag")
        await tag.press_sequentially("newsletter")
        await tag.evaluate("field => field.setSelectionRange(2, 5)")
        await page.evaluate("window.field = document.activeElement")
        for number in range(2):
            await pgq.enqueue_by_name(f"update-{number}", options={"delay": 3600, "queue": "mail"})
            await shown(page, f"update-{number}")
        kept = await page.evaluate(
            "[field.isConnected, field === document.activeElement, field.value, field.selectionStart, "
            "field.selectionEnd, field.closest('details').open]"
        )
        # A panel that the page opened, and the reader closed.
        await page.goto(f"{site.open}/jobs?key=some-key")
        panel = page.locator("details.more")
        await page.get_by_text("By tag, key, time or id").click()
        await pgq.enqueue_by_name("late", options={"delay": 3600, "queue": "mail", "key": "some-key"})
        await shown(page, "late")

        assert kept == [True, True, "newsletter", 2, 5, True]
        assert await panel.evaluate("panel => panel.open") is False


@pytest.mark.contract("W24")
async def test_a_panel_stays_open_when_another_queue_appears_before_it(site: Site) -> None:
    async with visiting(site) as visit:
        page = visit.page
        await page.goto(f"{site.open}/queues")
        await page.get_by_text("Pause… queue mail").click()
        field = page.locator("form", has_text="Pause queue mail").get_by_role("textbox")
        await field.press_sequentially("because")
        await page.evaluate("window.field = document.activeElement")

        await site.scene.pgq.enqueue_by_name("first", options={"queue": "aaa", "delay": 3600})
        await shown(page, "aaa")

        kept = await page.evaluate(
            "[field.isConnected, field === document.activeElement, field.value, "
            "field.closest('details').open]"
        )
    assert kept == [True, True, "because", True]


async def test_jobs_are_filtered_by_the_form(site: Site) -> None:
    async with visiting(site) as visit:
        page = visit.page
        await page.goto(f"{site.open}/jobs")

        # Its label has the number of jobs, too.
        failed = page.get_by_role("checkbox", name=re.compile("^failed"))
        await failed.check()
        await page.get_by_label("Queue", exact=True).fill("payments")
        await page.get_by_role("button", name="Show").click()

        await shown(page, "charge_card")
        await expect(page.get_by_role("link", name="send_email")).to_have_count(0)
        assert await failed.is_checked()

        await page.get_by_role("link", name="Clear filter").click()
        await page.get_by_text("By tag, key, time or id").click()
        await page.get_by_label("Job id").fill(str(site.scene.succeeded.id))
        await page.get_by_role("button", name="Show").click()
        await shown(page, str(site.scene.succeeded.id))


@pytest.mark.contract("W24")
async def test_rows_are_selected_and_cancelled_behind_a_preview(site: Site) -> None:
    jobs = [
        await site.scene.pgq.enqueue_by_name("picked", number, options={"delay": 3600}) for number in range(3)
    ]
    async with visiting(site) as visit:
        page = visit.page
        await page.goto(f"{site.open}/jobs?task=picked")
        for job in jobs[:2]:
            await page.get_by_role("checkbox", name=f"Select job {job.id}").check()
        await page.get_by_role("button", name="Cancel…").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Cancel 2 jobs?")
        await page.get_by_label("Reason (recorded in the history)").fill("a slip")
        await page.get_by_role("button", name="Cancel 2").click()
        await shown(page, "2 cancelled or asked to stop; the preview counted 2.")
        await shown(page, "Done")

    assert [await job.status() for job in jobs] == ["cancelled", "cancelled", "scheduled"]
    assert [each.reason for each in await site.scene.pgq.actions(jobs[0].id)] == ["a slip"]


@pytest.mark.contract("W24")
async def test_all_rows_are_selected_at_once_and_what_is_selected_is_counted(site: Site) -> None:
    for number in range(3):
        await site.scene.pgq.enqueue_by_name("picked all", number, options={"delay": 3600})
    async with visiting(site, width="narrow", scheme="dark") as visit:
        page = visit.page
        await page.goto(f"{site.open}/jobs?task=picked+all")
        head = page.get_by_role("checkbox", name="Select all 3 on this page")
        rows = page.locator("td.pick input")
        await expect(rows).to_have_count(3)
        await head.check()
        assert [await each.is_checked() for each in await rows.all()] == [True] * 3
        await rows.first.uncheck()
        assert await head.evaluate("box => [box.checked, box.indeterminate]") == [False, True]
        await rows.first.check()
        await expect(head).to_be_checked()
        await axe_finds_nothing(page)

        await page.set_viewport_size({"width": 1400, "height": 900})
        await head.uncheck()
        assert [await each.is_checked() for each in await rows.all()] == [False] * 3
        await head.check()
        await page.get_by_role("button", name="Cancel…").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Cancel 3 jobs?")
        await page.go_back()
        await page.get_by_label("Select all that the filter finds, on every page").check()
        await page.get_by_role("button", name="Cancel…").click()
        await shown(page, "picked all")
        await page.get_by_role("button", name="Cancel 3").click()
        await shown(page, "the preview counted 3")
        await axe_finds_nothing(page)


async def axe_finds_nothing(page: Page) -> None:
    """Have axe look at a page as it is now, after what was done to it."""
    answer = await Axe().run(page)
    assert [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in answer.response["violations"]
        if each["impact"] in ("serious", "critical")
    ] == []


@pytest.mark.contract("W24")
async def test_every_key_of_the_sheet_does_what_it_says(site: Site) -> None:
    async with visiting(site, scheme="dark") as visit:
        page, press = visit.page, visit.page.keyboard.press
        title = page.get_by_role("heading", level=1)
        # The second key of two has to come soon, and a busy machine takes its time.
        await page.clock.set_fixed_time(datetime.now(UTC))
        await page.goto(f"{site.open}/")
        sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
        await press("?")
        keys = [(await each.inner_text()).split() for each in await sheet.locator("dt").all()]
        words = [await each.inner_text() for each in await sheet.locator("dd").all()]
        await press("Escape")
        await expect(sheet).to_be_hidden()
        goes = {key[1]: word for key, word in zip(keys, words, strict=True) if key[0] == "g"}
        assert [key for key in keys if key[0] != "g"] == [["?"], ["Esc"], ["j", "k"], ["x"], ["/"]]
        for key, word in goes.items():
            await press("g")
            await press(key)
            await expect(title).to_have_text(word)
            await axe_finds_nothing(page)

        await page.goto(f"{site.open}/jobs")
        await press("j")
        focused = page.locator("main tbody tr a:focus")
        await expect(focused).to_have_count(1)
        assert await focused.evaluate("link => getComputedStyle(link).outlineStyle") == "solid"
        await press("x")
        await expect(page.locator("main tbody tr:has(a:focus) td.pick input")).to_be_checked()
        await press("x")
        await expect(page.locator("main tbody tr:has(a:focus) td.pick input")).not_to_be_checked()
        task = await focused.inner_text()
        await press("Enter")
        await expect(title).to_have_text(task)
        # A page without a search goes to the one that has it.
        await press("/")
        await expect(title).to_have_text("Jobs")
        await press("/")
        await expect(page.locator("main input:focus")).to_have_count(1)


async def test_a_running_job_is_cancelled(site: Site) -> None:
    job = await site.scene.pgq.enqueue_by_name("build_report", 1, "2026-09")
    async with visiting(site) as visit:
        await visit.page.goto(f"{site.open}/jobs/{job.id}")
        await shown(visit.page, "running")

        await visit.page.get_by_text("Cancel…").click()
        await visit.page.get_by_label("Reason").and_(visit.page.locator(":visible")).fill("wrong month")
        await visit.page.get_by_role("button", name="Cancel this job").click()

        await shown(visit.page, "cancelled")
        await shown(visit.page, "wrong month")

    assert await job.status() is JobStatus.CANCELLED


async def test_a_dead_letter_is_redriven_and_another_discarded(site: Site) -> None:
    @site.scene.pgq.task(queue="mail", name="brittle", max_retries=0)
    async def brittle(number: int) -> None:
        if number not in driven:
            driven.add(number)
            raise RuntimeError("once only")

    driven: set[int] = set()
    brittle_jobs = {number: await brittle.enqueue(number) for number in (1, 2)}
    await eventually(lambda: all_are(brittle_jobs, JobStatus.FAILED))

    async with visiting(site) as visit:
        page = visit.page
        await page.goto(f"{site.open}/jobs/{brittle_jobs[1].id}")
        await page.get_by_text("Redrive…").click()
        await page.get_by_role("button", name="Redrive this job").click()
        await shown(page, "succeeded")

        await page.goto(f"{site.open}/jobs/{brittle_jobs[2].id}")
        await page.get_by_text("Discard…").click()
        await page.get_by_role("button", name="Discard this dead letter").click()
        await shown(page, "discarded")

    assert await brittle_jobs[1].status() is JobStatus.SUCCEEDED
    assert await has_no_letters(site, "brittle")


async def test_a_dead_letter_is_redriven_with_other_arguments(site: Site) -> None:
    @site.scene.pgq.task(queue="mail", name="picky", max_retries=0)
    async def picky(number: int) -> int:
        if number < 0:
            raise ValueError("too small")
        return number

    job = await picky.enqueue(-7)
    await eventually(lambda: all_are({1: job}, JobStatus.FAILED))

    async with visiting(site) as visit:
        page = visit.page
        await page.goto(f"{site.open}/jobs/{job.id}")
        await page.get_by_text("Redrive…").click()
        await page.get_by_role("link", name="Edit arguments…").click()
        arguments = page.get_by_label("All arguments")
        await expect(arguments).to_have_value('{\n  "number": -7\n}')

        await arguments.fill('{"number": "many"}')
        await page.get_by_role("button", name="Preview").click()
        await shown(page, "Input should be a valid integer")
        await expect(arguments).to_have_value('{"number": "many"}')
        visit.mishaps.clear()

        await arguments.fill('{\n  "number": 7\n}')
        await page.get_by_role("button", name="Preview").click()
        await shown(page, "Redrive with these arguments?")
        assert await job.status() is JobStatus.FAILED
        await page.get_by_role("button", name="Redrive with these arguments").click()
        await shown(page, "succeeded")

    assert (await job.refresh()).result == 7


async def all_are(jobs: dict[int, Any], status: JobStatus) -> bool:
    return {await job.status() for job in jobs.values()} == {status}


async def test_many_dead_letters_are_redriven_or_discarded_after_a_confirmation(site: Site) -> None:
    pgq = site.scene.pgq
    is_mended = False

    @pgq.task(queue="mail", name="flaky", max_retries=0)
    async def flaky(number: int) -> None:
        if not is_mended:
            raise RuntimeError(f"mail {number} bounced")

    jobs = {number: await flaky.enqueue(number) for number in range(4)}
    await eventually(lambda: all_are(jobs, JobStatus.FAILED))

    async with visiting(site) as visit:
        page = visit.page
        await page.goto(f"{site.open}/dead-letters?task=flaky")
        await page.get_by_role("link", name="RuntimeError").click()
        await page.get_by_role("link", name="Redrive all of these…").click()
        await shown(page, "Redrive 4 dead letters?")
        assert await all_are(jobs, JobStatus.FAILED)

        is_mended = True
        # The filter knows reasons too: why people did something is another word.
        await page.get_by_label("Reason (recorded in the history)").fill("the relay is back")
        await page.get_by_role("button", name="Redrive 4").click()
        await eventually(lambda: all_are(jobs, JobStatus.SUCCEEDED))
        await shown(page, "4")

        is_mended = False
        more = {number: await flaky.enqueue(number) for number in range(3)}
        await eventually(lambda: all_are(more, JobStatus.FAILED))
        await page.goto(f"{site.open}/dead-letters?task=flaky")
        await page.get_by_role("link", name="Discard these…").click()
        await shown(page, "Discard 3 dead letters?")
        await page.get_by_label("Reason").fill("bounced for good")
        await page.get_by_role("button", name="Discard 3").click()
        await eventually(lambda: has_no_letters(site, "flaky"))

    assert await all_are(more, JobStatus.FAILED)


async def has_no_letters(site: Site, task: str) -> bool:
    return not (await site.scene.pgq.dead_letters(DeadLetterFilter(task=task))).letters


async def test_a_queue_is_paused_and_resumed_by_keyboard_alone(site: Site) -> None:
    async with visiting(site) as visit:
        page = visit.page
        await page.goto(f"{site.open}/queues")

        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("main")).to_be_focused()
        await press_until_focused(page, "Pause… queue mail")
        await page.keyboard.press("Enter")
        await press_until_focused(page, "Pause queue mail")
        await page.keyboard.press("Enter")
        await shown(page, "Resume… queue mail")
        paused = {each.name for each in await site.scene.pgq.settings() if each.paused_at}

        await press_until_focused(page, "Resume… queue mail")
        await page.keyboard.press("Enter")
        await press_until_focused(page, "Resume queue mail")
        await page.keyboard.press("Enter")
        await shown(page, "Pause… queue mail")

    assert "mail" in paused
    assert "mail" not in {each.name for each in await site.scene.pgq.settings() if each.paused_at}


async def press_until_focused(page: Page, name: str) -> None:
    """Go on by Tab until what is called *name* has the focus."""
    for _ in range(200):
        await page.keyboard.press("Tab")
        text = await page.evaluate("document.activeElement.textContent")
        if " ".join(str(text).split()) == name:
            return
    pytest.fail(f"{name!r} cannot be reached by Tab")


@pytest.mark.contract("W24")
async def test_keys_go_everywhere_and_escape_closes_what_is_open(site: Site) -> None:
    async with visiting(site) as visit:
        page, press = visit.page, visit.page.keyboard.press
        sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
        # The second key of two has to come soon, and a busy machine takes its time.
        await page.clock.set_fixed_time(datetime.now(UTC))
        await page.goto(f"{site.open}/")
        await press("?")
        await expect(sheet).to_be_visible()
        answer = await Axe().run(page)
        assert [each["id"] for each in answer.response["violations"]] == []
        await press("g")
        await press("j")
        await expect(sheet).to_be_visible()
        await press("Escape")
        await expect(sheet).to_be_hidden()
        await press("g")
        await press("j")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
        rows = page.locator("main tbody tr")
        for key, row in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
            await press(key)
            await expect(rows.nth(row).locator("a:focus")).to_have_count(1)
        await press("/")
        field = page.locator("main input:focus")
        await expect(field).to_have_count(1)
        # What is typed is typed.
        await page.keyboard.type("gq?")
        await expect(field).to_have_value("gq?")
        await press("Escape")
        await press("g")
        await press("q")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Queues")
        menu = page.get_by_text("Pause… queue mail")
        await menu.click()
        await page.get_by_role("button", name="Pause queue mail").focus()
        await press("Escape")
        await expect(page.get_by_role("button", name="Pause queue mail")).to_be_hidden()
        await expect(menu).to_be_focused()


@pytest.mark.contract("W24")
async def test_times_are_those_of_the_reader_and_ids_are_copied(site: Site) -> None:
    job = await site.scene.pgq.get(site.scene.succeeded.id)
    context = await site.browser.new_context(timezone_id="Etc/GMT-4")
    context.set_default_timeout(PATIENCE)
    try:
        await context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = await context.new_page()
        await page.goto(f"{site.open}/jobs/{job.id}")
        here = job.created_at + timedelta(hours=4)
        await shown(page, f"created {here:%Y-%m-%d %H:%M:%S} GMT+4")
        await expect(page.locator("footer")).to_contain_text("Times are in Etc/GMT-4, GMT+4")
        await page.get_by_role("button", name=f"Copy {job.id}").click()
        await expect(page.locator("#said")).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == str(job.id)
        # It is the same after the page has been brought up to date.
        await page.evaluate("window.button = document.querySelector('button.copy')")
        await site.scene.pgq.enqueue_by_name("other", options={"delay": 3600, "queue": "mail"})
        await expect(page.get_by_role("button", name=f"Copy {job.id}")).to_be_visible()
        await page.goto(f"{site.open}/")
        title = page.locator("title[data-at]").first
        at = datetime.fromisoformat(str(await title.get_attribute("data-at")))
        await expect(title).to_have_text(re.compile(f"^{at + timedelta(hours=4):%H:%M}: "))
    finally:
        await context.close()


@pytest.mark.contract("W24")
async def test_the_navigation_is_one_row_on_a_narrow_screen(site: Site) -> None:
    async with visiting(site, width="narrow") as visit:
        page = visit.page
        for path in PAGES:
            await page.goto(site.open + path)
            current = page.locator(".top nav a[aria-current]")
            await expect(current).to_be_in_viewport(ratio=0.9)
            box = await page.locator(".top").bounding_box()
            assert box is not None
            assert box["height"] < 70


async def test_all_of_it_works_without_scripts(site: Site) -> None:
    job = await site.scene.pgq.enqueue_by_name("send_email", "a", "b", options={"delay": 3600})
    async with visiting(site, scripts=False) as visit:
        page = visit.page
        for path in paths(site):
            await page.goto(site.open + path)
            await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await page.goto(f"{site.open}/jobs/{job.id}")
        await page.get_by_text("Cancel…").click()
        await page.get_by_role("button", name="Cancel this job").click()
        await shown(page, "cancelled")

    assert await job.status() is JobStatus.CANCELLED


async def test_texts_of_jobs_are_text(site: Site) -> None:
    hostile = site.scene.hostile
    async with visiting(site) as visit:
        page = visit.page
        for path in ("/", "/jobs", f"/jobs/{hostile.id}", "/dead-letters", "/queues", "/workers"):
            await page.goto(site.open + path)
            assert await page.locator("main script, main img").count() == 0
        await page.goto(f"{site.open}/jobs/{hostile.id}")
        await shown(page, "<script>alert('pgqueue')</script>")


async def test_one_logs_in_with_the_token_and_out(site: Site) -> None:
    async with visiting(site) as visit:
        page = visit.page
        await page.goto(f"{site.locked}/queues")
        await page.get_by_label("Token").fill("wrong")
        await page.get_by_role("button", name="Log in").click()
        await shown(page, "Wrong token.")
        visit.mishaps.clear()

        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Queues")
        [cookie] = await visit.context.cookies()
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"

        await page.get_by_role("button", name="Log out").click()
        await page.goto(f"{site.locked}/queues")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


async def test_running_jobs_are_shown_with_their_worker(site: Site, tmp_path: Path) -> None:
    async with visiting(site) as visit:
        await visit.page.goto(f"{site.open}/workers")
        await shown(visit.page, "alpha")
        await shown(visit.page, "build_report")
        picture = await visit.page.screenshot(path=tmp_path / "workers.png")
        assert picture.startswith(b"\x89PNG")
