"""The pages of workflows: the list, one that is drawn, and the ways between it and its jobs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from kit.scene import MARKUP, allow
from kit.web_client import client_of

from pgqueue import JobStatus, PgQueue, Reject, WorkflowHandle, chord
from pgqueue.model.workflows import WorkflowMember
from pgqueue.web import status_app
from pgqueue.web.pages.workflows import Stretch, stretch

WITHIN = 60.0
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

pytestmark = pytest.mark.contract("P7.22")


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    own_page = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
    async with client_of(status_app(pgq, authorize=allow), headers=own_page) as client:
        yield client


@pytest.fixture
async def broken(pgq: PgQueue) -> WorkflowHandle[int]:
    """A chord of twelve, of which one has failed."""

    @pgq.task(max_retries=0)
    async def check(number: int) -> int:
        if number == 7:
            raise Reject(MARKUP)
        return number

    @pgq.task(name=f"total {MARKUP}")
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    handle = await chord([check.s(each) for each in range(12)], total.s()).enqueue()
    async with pgq.worker():
        await handle.join(WITHIN)
    return handle


async def page_at(client: httpx.AsyncClient, path: str, *, status: int = 200) -> str:
    response = await client.get(f"/dashboard{path}")
    assert response.status_code == status, response.text
    assert response.headers["cache-control"] == "no-store"
    assert MARKUP not in response.text
    return response.text


async def test_the_list_leads_to_a_drawing_whose_boxes_lead_to_jobs_which_lead_back(
    pgq: PgQueue, client: httpx.AsyncClient, broken: WorkflowHandle[int]
) -> None:
    address = f"/workflows/{broken.workflow_id}"

    listed = await page_at(client, "/workflows?status=cancelled")
    drawn = await page_at(client, address)
    job = await page_at(client, f"/jobs/{broken.id}")
    plain = await page_at(client, f"/jobs/{(await pgq.enqueue_by_name('plain')).id}")

    assert f'href="/dashboard{address}"' in listed
    assert "11 succeeded, 1 failed, 1 cancelled" in listed
    nodes = re.findall(r'<a class="node (\w+)" href="([^"]+)" aria-label="([^"]+)"', drawn)
    assert [(status, href) for status, href, _ in nodes] == [
        ("failed", f"/dashboard{address}#jobs"),
        ("cancelled", f"/dashboard/jobs/{broken.id}"),
    ]
    assert nodes[0][2] == "check, 12 jobs: 11 succeeded, 1 failed"
    # A shape for each status, beside its colour and its word.
    assert {f'href="#i-{status}"' for status, _, _ in nodes} <= set(re.findall(r'href="#i-\w+"', drawn))
    assert f'href="/dashboard{address}"' in job
    assert "/dashboard/workflows/" not in plain


async def test_the_page_shows_jobs_by_status_and_what_can_be_done(
    pgq: PgQueue, client: httpx.AsyncClient, broken: WorkflowHandle[int]
) -> None:
    address = f"/workflows/{broken.workflow_id}"

    async def offers() -> set[str]:
        page = await page_at(client, address)
        return set(re.findall(rf'action="/dashboard{address}/(\w+)"', page))

    async def do(what: str) -> str:
        response = await client.post(f"/dashboard{address}/{what}", data={"why": "mended"})
        assert response.status_code == 303
        return response.headers["location"].partition("?done=")[2]

    failed = await page_at(client, f"{address}?status=failed")
    assert len(re.findall(r'<tr data-key="', failed)) == 1
    assert await offers() == {"retry"}
    assert await do("retry") == "workflow_retried"
    assert await offers() == {"pause", "cancel"}
    assert await do("pause") == "workflow_paused"
    assert await offers() == {"resume", "cancel"}
    assert await do("resume") == "resumed"
    assert await do("cancel") == "workflow_cancelled"
    assert await do("cancel") == "nothing"
    assert await offers() == set()
    assert (await broken.counts())[JobStatus.CANCELLED] == 2


async def test_a_wrong_filter_or_an_unknown_workflow_is_explained(client: httpx.AsyncClient) -> None:
    assert "Invalid filter" in await page_at(client, "/workflows?status=lost", status=422)
    assert "Invalid filter" in await page_at(client, "/workflows?cursor=x", status=422)
    assert "there is no workflow" in await page_at(client, f"/workflows/{UUID(int=7)}", status=404)
    assert "No workflows yet" in await page_at(client, "/workflows")


def test_a_job_has_its_place_on_the_timeline() -> None:
    def member(started: float | None, completed: float | None) -> WorkflowMember:
        at = [None if each is None else NOON + timedelta(seconds=each) for each in (started, completed)]
        return WorkflowMember(
            UUID(int=1),
            "work",
            JobStatus.SUCCEEDED,
            None,
            NOON,
            at[1],
            at[0],
            1,
            has_result=False,
            error=None,
        )

    end = NOON + timedelta(seconds=10)

    assert stretch(member(2, 5), NOON, end) == Stretch(0, 20, 50, has_run=True)
    assert stretch(member(None, None), NOON, end) == Stretch(0, 100, 100, has_run=False)
    # What takes no time can be seen, also at the edge, and in a workflow that takes none.
    shortest = stretch(member(10, 10), NOON, end)
    assert shortest.ran_from < shortest.until <= 100
    assert stretch(member(0, 0), NOON, NOON).until <= 100
