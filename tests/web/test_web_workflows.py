"""Workflows over HTTP: listed, polled, watched, drawn, and operated by those who may."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
from kit.streams import WITHIN, following, listening
from kit.waiting import eventually
from kit.web_client import client_of
from kit.web_server import serving

from pgqueue import JobStatus, PgQueue, Reject, WorkflowHandle, chain, chord, group
from pgqueue.web import status_app

TOKEN = {"Authorization": "Bearer a-secret-for-tests"}
LONG = 50.0

pytestmark = pytest.mark.contract("P6.13")


class Tasks:
    """The tasks of these workflows. `go_on`: lets the last job of a chord run."""

    def __init__(self, pgq: PgQueue) -> None:
        self.go_on = anyio.Event()
        self.is_mended = False

        @pgq.task(max_retries=0)
        async def odd(number: int) -> int:
            if number % 2 == 0 and not self.is_mended:
                raise Reject(f"{number} is even")
            return number

        @pgq.task
        async def add_up(numbers: list[int]) -> int:
            await self.go_on.wait()
            return sum(numbers)

        self.odd, self.add_up = odd, add_up

    def chord(self, *numbers: int, name: str | None = None) -> Any:
        return chord([self.odd.s(each) for each in numbers], self.add_up.s())


@pytest.fixture
def tasks(pgq: PgQueue) -> Tasks:
    return Tasks(pgq)


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may do everything."""
    async with client_of(status_app(pgq, token="a-secret-for-tests"), headers=TOKEN) as client:
        yield client


async def ended(handle: WorkflowHandle[Any]) -> None:
    """Wait until every job of a workflow has ended."""
    await handle.join(WITHIN)


async def get(client: httpx.AsyncClient, path: str, **headers: str) -> Any:
    response = await client.get(path, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_workflow_is_polled_with_its_counts_and_the_links_to_its_jobs_and_its_result(
    pgq: PgQueue, tasks: Tasks, client: httpx.AsyncClient
) -> None:
    handle = await tasks.chord(1, 3).enqueue()
    path = f"/workflows/{handle.workflow_id}"

    waiting = await get(client, path)
    tasks.go_on.set()
    async with pgq.worker():
        await ended(handle)
    over = await get(client, path)

    counts = {each.value: 0 for each in JobStatus}
    assert waiting["counts"] == {**counts, "pending": 2, "blocked": 1}
    assert (waiting["status"], waiting["is_over"], waiting["result_url"]) == ("blocked", False, None)
    assert (over["status"], over["total"], over["counts"]) == ("succeeded", 3, {**counts, "succeeded": 3})
    assert over["is_terminal"]
    assert over["is_over"]
    assert over["completed_at"] is not None
    assert await get(client, over["result_url"]) == 4
    [first, *_] = (await get(client, over["nodes_url"]))["nodes"]
    assert await get(client, first["result_url"]) == (await get(client, first["poll_url"]))["result"]


@pytest.mark.contract("P7.16")
async def test_its_jobs_come_by_pages_those_that_failed_first_with_their_errors(
    pgq: PgQueue, tasks: Tasks, client: httpx.AsyncClient
) -> None:
    handle = await tasks.chord(1, 2, 3, 4, 5).enqueue()
    async with pgq.worker():
        await ended(handle)

    nodes: list[Any] = []
    following: str | None = f"/workflows/{handle.workflow_id}/nodes?limit=2"
    while following is not None:
        page = await get(client, following)
        assert len(page["nodes"]) <= 2
        nodes += page["nodes"]
        following = page["next"]
    cancelled = (await get(client, f"/workflows/{handle.workflow_id}/nodes?status=cancelled"))["nodes"]

    assert [each["status"] for each in nodes] == ["failed"] * 2 + ["succeeded"] * 3 + ["cancelled"]
    assert [each["error"]["message"] for each in nodes[:2]] == ["2 is even", "4 is even"]
    assert [each["attempt"] for each in nodes] == [1, 1, 1, 1, 1, None]
    assert cancelled == nodes[-1:]
    assert cancelled[0]["reason"] == "upstream_failed"
    assert all(str(each["job_id"]) in cancelled[0]["error"]["message"] for each in nodes[:2])


async def test_workflows_are_listed_newest_first_by_page_and_filter(
    pgq: PgQueue, tasks: Tasks, client: httpx.AsyncClient
) -> None:
    made = [await tasks.odd.map([1, 3]).enqueue() for _ in range(3)]
    flow = pgq.workflow("nightly")
    flow.add("one", tasks.odd.s(1))
    named = await flow.enqueue()
    async with pgq.worker():
        await ended(named)
        for each in made:
            await ended(each)
    blocked = await tasks.chord(1).enqueue()

    listed: list[str] = []
    page: Any = {"next": "/workflows?limit=2"}
    while page["next"] is not None:
        page = await get(client, page["next"])
        listed += [each["workflow_id"] for each in page["workflows"]]

    assert listed == [str(each.workflow_id) for each in (blocked, named, *reversed(made))]
    for query, expected in {
        "name=nightly": [named],
        "status=blocked": [blocked],
        "status=succeeded&limit=2": [named, made[2]],
        "created_after=2999-01-01T00:00:00Z": [],
    }.items():
        found = (await get(client, f"/workflows?{query}"))["workflows"]
        assert [each["workflow_id"] for each in found] == [str(each.workflow_id) for each in expected], query
    [shown] = (await get(client, "/workflows?name=nightly"))["workflows"]
    assert (shown["name"], shown["total"], shown["counts"]["succeeded"]) == ("nightly", 1, 1)


async def test_a_long_poll_is_answered_by_the_next_change_and_streams_tell_each_to_the_end(
    pgq: PgQueue, tasks: Tasks
) -> None:
    handle = await tasks.chord(1, 3).enqueue()
    path = f"/workflows/{handle.workflow_id}"
    app = status_app(pgq, local_reading=True, max_wait=LONG)
    async with serving(app) as url, httpx.AsyncClient(timeout=LONG + 10, base_url=url) as client:
        first = await client.get(path)
        async with listening(client, f"{url}{path}/events") as (_, events):
            told = [json.loads((await following(events)).data)]
            async with anyio.create_task_group() as group, pgq.worker():

                async def poll() -> None:
                    response = await client.get(
                        f"{path}?wait={LONG}", headers={"If-None-Match": first.headers["etag"]}
                    )
                    assert response.json()["counts"] != first.json()["counts"]

                with anyio.fail_after(LONG - 10):
                    group.start_soon(poll)
                    tasks.go_on.set()
                    while not told[-1]["is_over"]:
                        event = await following(events)
                        assert event.event == "workflow"
                        told.append(json.loads(event.data))
        again = await client.get(f"{path}/events", headers={"Last-Event-ID": event.id})

    assert told[0]["counts"]["blocked"] == 1
    assert (told[-1]["status"], told[-1]["counts"]["succeeded"]) == ("succeeded", 3)
    assert again.status_code == 204


@pytest.mark.contract("P7.22")
async def test_its_graph_is_drawn_in_each_format(tasks: Tasks, client: httpx.AsyncClient) -> None:
    handle = await tasks.chord(1, 3).enqueue()
    path = f"/workflows/{handle.workflow_id}/graph"

    drawn = await get(client, path)
    mermaid, dot = [await client.get(f"{path}?format={each}") for each in ("mermaid", "dot")]
    unknown = await client.get(f"{path}?format=png")

    assert len(drawn["jobs"]) == 3
    assert {edge["to"] for edge in drawn["edges"]} == {str(handle.id)}
    assert mermaid.text.startswith("flowchart LR")
    assert dot.text.startswith("digraph")
    assert unknown.status_code == 422


async def test_it_is_paused_resumed_retried_and_cancelled(
    pgq: PgQueue, tasks: Tasks, client: httpx.AsyncClient
) -> None:
    handle = await tasks.chord(1, 2).enqueue()
    path = f"/workflows/{handle.workflow_id}"

    async def post(what: str, body: Any = None) -> Any:
        response = await client.post(f"{path}/{what}", json=body or {})
        assert response.status_code == 200, response.text
        return response.json()

    async def has(**counts: int) -> bool:
        now = (await get(client, path))["counts"]
        return all(now[status] == count for status, count in counts.items())

    async with pgq.worker(poll_interval=0.1):
        await eventually(lambda: has(failed=1, succeeded=1, cancelled=1), within=WITHIN)
        tasks.is_mended = True
        assert (await post("pause", {"reason": "a leak"}))["is_paused"]
        assert (await post("retry-failed", {"reason": "mended"}))["changed"] == 1
        await eventually(lambda: has(succeeded=2), within=WITHIN)
        assert await has(blocked=1)
        assert not (await post("resume"))["is_paused"]
        await eventually(lambda: has(running=1), within=WITHIN)
        cancelled = await post("cancel", {"reason": "enough"})
        assert cancelled["changed"] == 1
        await ended(handle)
    assert await has(cancelled=1)
    assert (await post("cancel"))["changed"] == 0
    done = (await get(client, f"{path}/actions"))["actions"]
    assert [(each["action"], each["reason"]) for each in done] == [("paused", "a leak"), ("resumed", None)]


async def test_what_is_no_workflow_is_404_and_what_is_no_id_422(
    tasks: Tasks, client: httpx.AsyncClient
) -> None:
    job = await tasks.odd.enqueue(1)

    for given, status in {uuid4(): 404, job.id: 404, "nonsense": 422}.items():
        for path in ("", "/nodes", "/graph", "/actions", "/events"):
            response = await client.get(f"/workflows/{given}{path}")
            assert response.status_code == status, (given, path)
        for path in ("/cancel", "/retry-failed", "/pause", "/resume"):
            assert (await client.post(f"/workflows/{given}{path}")).status_code == status, (given, path)
    handle = await group(tasks.odd.s(1)).enqueue()
    for cursor in ("nonsense", "f.x", "x.AAAAAAAAAAAAAAAAAAAAAA"):
        response = await client.get(f"/workflows/{handle.workflow_id}/nodes?cursor={cursor}")
        assert response.status_code == 422


async def test_whatever_is_asked_of_a_workflow_is_answered_with_what_was_wrong(
    pgq: PgQueue, tasks: Tasks, client: httpx.AsyncClient
) -> None:
    handle = await group(tasks.odd.s(1)).enqueue()
    path = f"/workflows/{handle.workflow_id}"
    cursor = "AAAAAAAAAAAAAAAAAAAAAA"
    unreadable = (
        *(f"{path}/nodes?status={each}" for each in ("", "lost", "FAILED", "%00", "%ff", "failed,pending")),
        *(
            f"{path}/nodes?cursor={each}"
            for each in ("f.", "o.", "f.%00", f"F.{cursor}", f"f.{cursor}A", "%ff")
        ),
        *(f"{path}/nodes?limit={each}" for each in ("0", "-1", "1e3", "10001", "x", "9" * 5000)),
        *(f"{path}?wait={each}" for each in ("-1", "nan", "x", "9" * 5000)),
        *(f"{path}/graph?format={each}" for each in ("", "png", "%00")),
        *(f"/workflows?status={each}" for each in ("lost", "%00")),
        *(f"/workflows?cursor={each}" for each in ("x", "%00", cursor * 100)),
        *(
            "/workflows?name=%00",
            "/workflows?created_after=noon",
            "/workflows?created_after=2026-01-01T00:00:00",
        ),
        *(f"/workflows/{each}" for each in ("x", "1", "%00", "%ff", f"{handle.workflow_id}0", "9" * 2000)),
    )
    for each in unreadable:
        response = await client.get(each)
        assert response.status_code in (404, 414, 422), (each, response.status_code, response.text)
        assert response.headers["content-type"] == "application/problem+json", each
        assert response.json()["detail"], each
    for body, status in ((b"{", 422), (b"[]", 422), (b'{"reason": 1}', 422), (b'{"x": 1}', 422)):
        for verb in ("cancel", "retry-failed", "pause", "resume"):
            response = await client.post(
                f"{path}/{verb}", content=body, headers={"Content-Type": "application/json"}
            )
            assert response.status_code == status, (verb, body, response.text)
    assert await pgq.workflow_actions(handle.workflow_id) == []
    # A UUID in any spelling is the same one.
    for spelt in (handle.workflow_id.hex, str(handle.workflow_id).upper(), f"{{{handle.workflow_id}}}"):
        assert (await get(client, f"/workflows/{spelt}"))["workflow_id"] == str(handle.workflow_id)


@pytest.mark.contract("W26")
async def test_where_jobs_have_owners_a_workflow_is_nobodys_own(pgq: PgQueue, tasks: Tasks) -> None:
    handle = await chain(tasks.odd.s(1), tasks.odd.s()).enqueue()
    asked: list[tuple[str, str]] = []

    def shared(_: object, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return action == "read"

    own: dict[str, Any] = {"actor": lambda _: "ann", "authorize": lambda *_: True, "owner_header": True}
    async with client_of(status_app(pgq, **own)) as client:
        refused = [await client.get(path) for path in ("/workflows", f"/workflows/{handle.workflow_id}")]
    async with client_of(status_app(pgq, **own, authorize_shared=shared)) as client:
        read = await client.get(f"/workflows/{handle.workflow_id}")
        cancelled = await client.post(f"/workflows/{handle.workflow_id}/cancel")

    assert [each.status_code for each in refused] == [403, 403]
    assert (read.status_code, cancelled.status_code) == (200, 403)
    resource = f"workflow:{UUID(str(handle.workflow_id))}"
    assert asked == [("read", resource), ("cancel", resource)]
