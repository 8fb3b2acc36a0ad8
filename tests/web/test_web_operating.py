"""What operators do over HTTP: jobs listed and changed by filter, dead letters, queues, tasks and workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import anyio
import httpx
import pytest
from kit.waiting import eventually
from kit.web_client import client_of
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from pgqueue import JobContext, JobFilter, JobHandle, JobStatus, PgQueue
from pgqueue.model.jobs import Job
from pgqueue.web import status_app

TOKEN = {"Authorization": "Bearer a-secret-for-tests"}


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may do everything."""
    async with client_of(status_app(pgq, token="a-secret-for-tests"), headers=TOKEN) as client:
        yield client


async def failed(pgq: PgQueue, *messages: str, task: str = "fail") -> list[JobHandle[Any]]:
    """Return jobs that have failed with *messages*, in that order."""
    known = pgq.registry.get(task)
    if known is None:

        @pgq.task(name=task, max_retries=0)
        async def fail(message: str, note: str = "") -> None:
            raise ValueError(message)

    jobs = [await pgq.enqueue_by_name(task, message) for message in messages]
    async with pgq.worker(concurrency=1):
        with anyio.fail_after(60):
            for job in jobs:
                await pgq.wait(job.id)
    return jobs


def is_problem(response: httpx.Response, status: int, *words: str) -> bool:
    """Whether *response* is a problem of that *status* with *words* in its detail."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    detail = response.json()["detail"]
    assert all(word in detail for word in words), detail
    return True


# Jobs


@pytest.mark.contract("P4.13")
async def test_jobs_are_listed_by_every_filter(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task(queue="mail")
    async def send(to: str) -> None: ...

    @pgq.task
    async def clean() -> None: ...

    plain = await send.enqueue("a")
    tagged = await send.options(tags=["vip", "eu"], key="customer/7").enqueue("b")
    later = await clean.options(delay=3600).enqueue()
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    long_ago = "2020-01-01T00:00:00Z"

    async def listed(**query: Any) -> list[str]:
        response = await client.get("/jobs", params=query)
        assert response.status_code == 200, response.text
        return [job["job_id"] for job in response.json()["jobs"]]

    everything = [str(job.id) for job in (later, tagged, plain)]
    assert await listed() == everything
    assert await listed(status="scheduled") == [str(later.id)]
    assert await listed(status=["scheduled", "pending"]) == everything
    assert await listed(status="scheduled,pending") == everything
    assert await listed(status="failed") == []
    assert await listed(task="clean") == [str(later.id)]
    assert await listed(queue="mail") == [str(tagged.id), str(plain.id)]
    assert await listed(tag="eu") == [str(tagged.id)]
    assert await listed(key="customer/7") == [str(tagged.id)]
    assert await listed(created_after=long_ago, created_before=soon) == everything
    assert await listed(created_before=long_ago) == []
    assert await listed(queue="mail", tag="vip", status="pending") == [str(tagged.id)]
    assert await listed(search='"TO":"b"') == [str(tagged.id)]
    await pgq.cancel(plain.id)
    assert await listed(finished_after=long_ago, finished_before=soon) == [str(plain.id)]
    counts = (await client.get("/jobs/counts", params={"queue": "mail"})).json()["counts"]
    assert {status: each for status, each in counts.items() if each["jobs"]} == {
        "pending": {"jobs": 1, "is_more": False},
        "cancelled": {"jobs": 1, "is_more": False},
    }


@pytest.mark.contract("P4.13")
async def test_pages_follow_each_other_by_their_links_and_miss_nothing(pgq: PgQueue) -> None:
    @pgq.task
    async def work(number: int) -> None: ...

    @pgq.task
    async def other() -> None: ...

    handles = []
    for number in range(5):
        handles.append(await work.enqueue(number))
        await other.enqueue()
    app = Starlette(routes=[Mount("/queue", app=status_app(pgq, token="a-secret-for-tests"))])

    seen: list[str] = []
    async with client_of(app, headers=TOKEN) as client:
        response = await client.get("/queue/jobs?task=work&limit=2")
        while True:
            page = response.json()
            seen += [job["job_id"] for job in page["jobs"]]
            if page["next"] is None:
                break
            assert response.headers["link"] == f'<{page["next"]}>; rel="next"'
            # One that comes meanwhile is on none of them.
            await work.enqueue(7)
            response = await client.get(page["next"])

    assert seen == [str(handle.id) for handle in reversed(handles)]
    assert page["cursor"] is None
    assert "link" not in response.headers


IMPOSSIBLE_QUERIES = [
    ("colour=red", ["'colour'", "status, task, queue, tag, key"]),
    ("status=lost", ["status", "'succeeded'"]),
    ("status=", ["status"]),
    ("task=a&task=b", ["'task'", "2 times"]),
    ("task=", ["task"]),
    ("task=%00", ["task"]),
    ("limit=0", ["limit"]),
    ("limit=1001", ["limit"]),
    ("limit=ten", ["limit"]),
    ("cursor=nonsense", ["'nonsense'", "omit it"]),
    ("created_after=2026-01-01", ["created_after", "zone"]),
    ("created_after=2026-01-01T00:00:00", ["created_after", "zone"]),
    ("created_after=0001-01-01T00:00:00%2B14:00", ["created_after"]),
    ("created_after=2026-01-02T00:00:00Z&created_before=2026-01-01T00:00:00Z", ["must be earlier"]),
]


@pytest.mark.contract("P4.13")
async def test_an_invalid_filter_is_a_422_that_says_why(client: httpx.AsyncClient) -> None:
    answers = [(await client.get(f"/jobs?{query}"), words) for query, words in IMPOSSIBLE_QUERIES]

    assert all(is_problem(response, 422, *words) for response, words in answers)


@pytest.mark.contract("P4.13")
async def test_many_jobs_are_cancelled_and_requeued_by_the_same_filter(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task
    async def work(number: int) -> None: ...

    @pgq.task
    async def other() -> None: ...

    jobs = await pgq.enqueue_many(work.s(number) for number in range(3))
    kept = await other.enqueue()
    chosen = {"filter": {"task": "work"}, "reason": "by mistake"}

    cancelled = await client.post("/jobs/cancel", json=chosen)
    after_cancel = [await job.status() for job in jobs]
    requeued = await client.post("/jobs/requeue", json=chosen)
    after_requeue = [await job.status() for job in jobs]

    assert (cancelled.status_code, cancelled.json()) == (200, {"cancelled": 3, "is_complete": True})
    assert after_cancel == [JobStatus.CANCELLED] * 3
    assert (requeued.status_code, requeued.json()) == (200, {"requeued": 3, "is_complete": True})
    assert after_requeue == [JobStatus.PENDING] * 3
    assert await kept.status() is JobStatus.PENDING
    [action, _] = (await client.get(f"/jobs/{jobs[0].id}/actions")).json()["actions"]
    assert (action["action"], action["reason"], action["actor"]) == ("cancelled", "by mistake", "http")


@pytest.mark.contract("P4.13")
async def test_everything_at_once_has_to_be_said(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task
    async def work() -> None: ...

    paths = ["/jobs/cancel", "/jobs/requeue", "/dead-letters/redrive", "/dead-letters/discard"]
    job = await work.enqueue()

    unsaid = [await client.post(path) for path in paths]
    empty = [await client.post(path, json={"filter": {}}) for path in paths]
    misspelt = [await client.post(path, json={"filter": {"taks": "work"}}) for path in paths]
    after = await job.status()
    said = [await client.post(path, json={"all": True}) for path in paths]

    assert all(is_problem(response, 422, "all") for response in [*unsaid, *empty])
    assert all(is_problem(response, 422, "taks") for response in misspelt)
    assert after is JobStatus.PENDING
    assert all(response.is_success for response in said)


async def test_a_bulk_request_ends_at_its_limit_and_says_that_there_is_more(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task
    async def work(number: int) -> None: ...

    await pgq.enqueue_many(work.s(number) for number in range(501))
    chosen = {"filter": {"task": "work"}, "limit": 1}

    first = (await client.post("/jobs/cancel", json=chosen)).json()
    second = (await client.post("/jobs/cancel", json={**chosen, "limit": 10})).json()

    assert first == {"cancelled": 500, "is_complete": False}
    assert second == {"cancelled": 1, "is_complete": True}


@pytest.mark.contract("P7.25")
async def test_a_job_is_sent_an_event(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task
    async def approve(ctx: JobContext) -> dict[str, str]:
        return await ctx.wait_for_event("approved", dict[str, str])

    job = await approve.enqueue()
    path, event = f"/jobs/{job.id}/events", {"name": "approved", "value": {"by": "ann"}, "dedup_id": "mail"}

    sent = await client.post(path, json=event)
    again = await client.post(path, json=event)
    nameless = await client.post(path, json={"value": 1})
    hostile = await client.post(path, json={"name": "a", "value": "\0"})
    unknown = await client.post(f"/jobs/{uuid4()}/events", json=event)
    async with pgq.worker():
        assert await job.result(timeout=60) == {"by": "ann"}
    late = await client.post(path, json=event)

    assert (sent.status_code, sent.json()) == (202, {"is_new": True})
    assert (again.status_code, again.json()) == (200, {"is_new": False})
    assert is_problem(nameless, 422, "name")
    assert is_problem(hostile, 422, "NUL")
    assert is_problem(unknown, 404, "no job")
    assert is_problem(late, 409, "takes no events")


async def test_a_job_is_requeued_and_given_another_priority(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()

    early = await client.post(f"/jobs/{job.id}/requeue")
    higher = await client.post(f"/jobs/{job.id}/reprioritise", json={"priority": 7, "reason": "urgent"})
    priority = (await job.refresh()).priority
    await job.cancel()
    late = await client.post(f"/jobs/{job.id}/reprioritise", json={"priority": 8})
    again = await client.post(f"/jobs/{job.id}/requeue", json={"reason": "changed my mind"})

    assert is_problem(early, 409, "has not ended")
    assert (higher.status_code, priority) == (200, 7)
    assert is_problem(late, 409, "while it is waiting")
    assert (again.status_code, again.json()["status"]) == (200, "pending")
    actions = (await client.get(f"/jobs/{job.id}/actions")).json()["actions"]
    assert [each["reason"] for each in actions] == ["urgent", None, "changed my mind"]


@pytest.mark.contract("P8.6")
async def test_a_scheduled_job_is_run_now(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.options(delay=3600).enqueue()

    moved = await client.post(f"/jobs/{job.id}/run", json={"reason": "urgent"})
    await job.cancel()
    late = await client.post(f"/jobs/{job.id}/run")

    assert (moved.status_code, moved.json()["status"]) == (200, "pending")
    assert is_problem(late, 409, "only a scheduled job can be run now")
    assert late.json()["job_status"] == "cancelled"


async def test_attempts_that_did_not_succeed_are_shown(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    [job] = await failed(pgq, "no such account")

    [attempt] = (await client.get(f"/jobs/{job.id}/attempts")).json()["attempts"]

    assert (attempt["attempt"], attempt["reason"]) == (1, "exception")
    assert attempt["error"] == {"type": "ValueError", "message": "no such account"}


async def test_the_history_of_an_unknown_job_is_a_404(client: httpx.AsyncClient) -> None:
    for path in ("attempts", "actions"):
        assert is_problem(await client.get(f"/jobs/{uuid4()}/{path}"), 404, "there is no job")
        assert is_problem(await client.get(f"/jobs/latest/{path}"), 422, "not a job id")


# Dead letters


@pytest.mark.contract("P5.4")
async def test_looking_at_dead_letters_changes_nothing(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    jobs = await failed(pgq, "account 1", "account 2", "disk full")
    before = [await pgq.dead_letter(job.id) for job in jobs]

    page = (await client.get("/dead-letters?task=fail&limit=2")).json()
    rest = (await client.get(page["next"])).json()
    groups = (await client.get("/dead-letters/groups")).json()["groups"]
    of_group = (await client.get("/dead-letters", params={"fingerprint": groups[1]["fingerprint"]})).json()
    shown = await client.get(f"/dead-letters/{jobs[2].id}")

    ids = [letter["job_id"] for letter in page["dead_letters"] + rest["dead_letters"]]
    assert ids == [str(job.id) for job in reversed(jobs)]
    assert [(group["count"], group["latest"]["message"]) for group in groups] == [
        (1, "disk full"),
        (2, "account 2"),
    ]
    assert [letter["message"] for letter in of_group["dead_letters"]] == ["account 2", "account 1"]
    assert (shown.json()["message"], shown.json()["job"]["arguments"]) == (
        "disk full",
        {"message": "disk full"},
    )
    assert "Traceback" not in shown.text
    assert [await pgq.dead_letter(job.id) for job in jobs] == before


@pytest.mark.contract("P5.5")
async def test_a_dead_letter_is_redriven_once_with_other_arguments_into_another_queue(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    [job] = await failed(pgq, "first")
    path = f"/dead-letters/{job.id}/redrive"

    wrong = await client.post(path, json={"arguments": {"mesage": "second"}})
    body = {"arguments": {"message": "second"}, "queue": "slow", "reason": "typo"}
    redriven = await client.post(path, json=body)
    again = await client.post(path, json=body)

    assert is_problem(wrong, 422, "mesage")
    assert redriven.status_code == 200
    assert {name: redriven.json()[name] for name in ("job_id", "status", "queue", "attempt")} == {
        "job_id": str(job.id),
        "status": "pending",
        "queue": "slow",
        "attempt": 0,
    }
    assert (await job.refresh()).arguments == {"message": "second"}
    assert is_problem(again, 409, "pending")
    assert is_problem(await client.get(f"/dead-letters/{job.id}"), 404, "not a dead letter")
    [action] = (await client.get(f"/jobs/{job.id}/actions")).json()["actions"]
    assert (action["action"], action["reason"], action["actor"]) == ("redriven", "typo", "http")


@pytest.mark.contract("P5.8")
async def test_a_dead_letter_is_discarded_with_a_reason(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    [job] = await failed(pgq, "gone")
    failed_at = (await job.refresh()).completed_at

    discarded = await client.post(f"/dead-letters/{job.id}/discard", json={"reason": "customer left"})
    again = await client.post(f"/dead-letters/{job.id}/discard")

    assert (discarded.status_code, discarded.json()["status"]) == (200, "failed")
    assert is_problem(again, 409, "discarded")
    assert (await client.get("/dead-letters")).json()["dead_letters"] == []
    # Its retention counts from there.
    assert (await job.refresh()).completed_at == failed_at
    [action] = (await client.get(f"/jobs/{job.id}/actions")).json()["actions"]
    assert (action["action"], action["reason"]) == ("discarded", "customer left")


@pytest.mark.contract("P5.8")
async def test_many_dead_letters_are_discarded_by_filter(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    await failed(pgq, "account 1", "account 2")
    await failed(pgq, "account 3", task="other")

    discarded = await client.post("/dead-letters/discard", json={"filter": {"task": "fail"}})

    assert discarded.json() == {"discarded": 2}
    [left] = (await client.get("/dead-letters")).json()["dead_letters"]
    assert left["task"] == "other"


@pytest.mark.contract("P5.6")
async def test_a_mass_redrive_shows_its_progress_where_it_says(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    jobs = await failed(pgq, "account 1", "account 2")

    begun = await client.post(
        "/dead-letters/redrive",
        json={"filter": {"task": "fail"}, "rate": 1000, "queue": "slow", "reason": "fixed"},
    )

    async def is_over() -> bool:
        return bool((await client.get(begun.headers["location"])).json()["is_over"])

    assert begun.status_code == 202
    assert begun.headers["retry-after"] == "1"
    progress = begun.json()
    assert begun.headers["location"] == f"/redrives/{progress['redrive_id']}"
    assert (progress["state"], progress["done"], progress["total"]) == ("running", 0, 2)
    assert progress["rate"] == 1000
    async with pgq.worker(queues=["nothing"]):
        await eventually(is_over)
    ended = (await client.get(begun.headers["location"])).json()
    assert (ended["state"], ended["done"], ended["actor"]) == ("done", 2, "http")
    assert {(await job.refresh()).queue for job in jobs} == {"slow"}
    assert is_problem(await client.post(f"{begun.headers['location']}/cancel"), 409, "done")


@pytest.mark.contract("P5.6")
async def test_a_mass_redrive_can_be_cancelled(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    await failed(pgq, "account 1")
    begun = await client.post("/dead-letters/redrive", json={"all": True, "rate": 0.001})

    cancelled = await client.post(f"{begun.headers['location']}/cancel")

    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert len((await client.get("/dead-letters")).json()["dead_letters"]) == 1
    assert is_problem(await client.get(f"/redrives/{uuid4()}"), 404, "no mass redrive")
    assert is_problem(await client.get("/redrives/7"), 422, "not a redrive id")


@pytest.mark.contract("P5.6")
async def test_an_invalid_rate_redrives_nothing(client: httpx.AsyncClient) -> None:
    answers = [
        await client.post("/dead-letters/redrive", json={"all": True, "rate": rate})
        for rate in (0, -1, 5001, "fast", None)
    ]

    assert all(is_problem(response, 422, "rate") for response in answers)


# Tasks


async def test_tasks_are_paused_resumed_and_configured_by_name(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task(queue="mail", name="send/mail")
    async def send() -> None: ...

    path = "/tasks/send%2Fmail"

    paused = await client.post(f"{path}/pause", json={"reason": "the relay is down"})
    configured = await client.put(f"{path}/options", json={"options": {"timeout": 10, "max_retries": 1}})
    listed = (await client.get("/tasks")).json()["tasks"]
    resumed = await client.post(f"{path}/resume")
    undone = await client.put(f"{path}/options", json={})

    assert paused.json()["is_paused"] is True
    assert paused.json()["change_reason"] == "the relay is down"
    assert configured.json()["options"] == {"timeout": 10, "max_retries": 1}
    [task] = listed
    assert (task["task"], task["queue"], task["is_declared"], task["is_paused"]) == (
        "send/mail",
        "mail",
        True,
        True,
    )
    assert resumed.json()["is_paused"] is False
    assert undone.json()["options"] == {}


async def test_invalid_options_change_nothing(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    impossible: list[dict[str, Any]] = [
        {"timeout": -1},
        {"timeout": "soon"},
        {"colour": 1},
        {"max_retries": 1.5},
        {"soft_timeout": 9, "timeout": 3},
    ]

    answers = [await client.put("/tasks/work/options", json={"options": options}) for options in impossible]

    assert all(is_problem(response, 422) for response in answers)
    assert await pgq.settings() == []


# Queues and workers


async def test_queues_are_measured_paused_and_resumed(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task(queue="mail/eu\n")
    async def send() -> None: ...

    await send.enqueue()
    path = "/queues/mail%2Feu%0A"

    paused = await client.post(f"{path}/pause", json={"reason": "the relay is down"})
    queues = {queue["queue"]: queue for queue in (await client.get("/queues")).json()["queues"]}
    shown = (await client.get(path)).json()
    resumed = await client.post(f"{path}/resume")

    assert (paused.status_code, paused.json()["is_paused"]) == (200, True)
    listed = queues["mail/eu\n"]
    assert (listed["is_paused"], listed["changed_by"]) == (True, "http")
    assert listed["change_reason"] == shown["change_reason"] == "the relay is down"
    assert shown["pending"] == {"value": 1, "is_exact": True}
    assert resumed.json()["is_paused"] is False
    assert is_problem(await client.get("/queues/none"), 404, "unknown queue 'none'")
    assert is_problem(await client.post("/queues/%00/pause"), 422, "NUL")

    assert is_problem(await client.delete(path), 409, "have not ended (1)")
    assert [each async for each in pgq.cancel_many(JobFilter(queue="mail/eu\n"))] == [1]
    assert (await client.delete(path)).status_code == 204
    assert is_problem(await client.delete(path), 404, "nothing to remove")
    assert is_problem(await client.delete("/queues/%00"), 422, "NUL")
    assert is_problem(await client.post(f"/queues/{'long' * 100}/pause"), 422, "200")


async def test_workers_are_shown_with_what_they_run(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    started, go_on = anyio.Event(), anyio.Event()

    @pgq.task
    async def hold() -> None:
        started.set()
        await go_on.wait()

    job = await hold.enqueue()
    async with pgq.worker(name="worker-1", concurrency=3):
        with anyio.fail_after(60):
            await started.wait()
        [worker] = (await client.get("/workers")).json()["workers"]
        [without_jobs] = (await client.get("/workers?jobs=0")).json()["workers"]
        go_on.set()

    assert (worker["name"], worker["is_alive"], worker["running"]) == ("worker-1", True, 1)
    assert [each["job_id"] for each in worker["jobs"]] == [str(job.id)]
    assert (without_jobs["running"], without_jobs["jobs"]) == (1, [])
    assert is_problem(await client.get("/workers?jobs=101"), 422, "jobs")


# Who may


async def test_without_the_token_nothing_is_changed_or_seen(pgq: PgQueue) -> None:
    unknown = uuid4()
    async with client_of(status_app(pgq, token="a-secret-for-tests")) as client:
        answers = {
            path: (await client.request(method, path)).status_code
            for method, path in [
                ("GET", "/jobs"),
                ("POST", "/jobs/cancel"),
                ("POST", "/jobs/requeue"),
                ("GET", f"/jobs/{unknown}/attempts"),
                ("GET", f"/jobs/{unknown}/actions"),
                ("POST", f"/jobs/{unknown}/requeue"),
                ("POST", f"/jobs/{unknown}/reprioritise"),
                ("POST", f"/jobs/{unknown}/run"),
                ("POST", f"/jobs/{unknown}/events"),
                ("GET", "/dead-letters"),
                ("GET", "/dead-letters/groups"),
                ("GET", f"/dead-letters/{unknown}"),
                ("POST", f"/dead-letters/{unknown}/redrive"),
                ("POST", f"/dead-letters/{unknown}/discard"),
                ("POST", "/dead-letters/redrive"),
                ("POST", "/dead-letters/discard"),
                ("GET", f"/redrives/{unknown}"),
                ("POST", f"/redrives/{unknown}/cancel"),
                ("GET", "/tasks"),
                ("POST", "/tasks/work/pause"),
                ("POST", "/tasks/work/resume"),
                ("PUT", "/tasks/work/options"),
                ("GET", "/queues"),
                ("GET", "/queues/mail"),
                ("POST", "/queues/mail/pause"),
                ("POST", "/queues/mail/resume"),
                ("DELETE", "/queues/mail"),
                ("GET", "/workers"),
                ("GET", "/schedules"),
                ("POST", "/schedules"),
                ("GET", "/schedules/nightly"),
                ("PATCH", "/schedules/nightly"),
                ("DELETE", "/schedules/nightly"),
                ("POST", "/schedules/nightly/pause"),
                ("POST", "/schedules/nightly/resume"),
                ("POST", "/schedules/nightly/run"),
                ("GET", "/limits"),
                ("GET", "/limiters"),
                ("GET", "/limits/tenant"),
                ("PUT", "/limits/tenant"),
                ("DELETE", "/limits/tenant"),
            ]
        }

    assert answers == dict.fromkeys(answers, 401)


def user_of(request: Request) -> str:
    return request.headers.get("x-user", "")


def owner_of(request: Request, job: Job) -> bool:
    return request.headers.get("x-user") in job.tags


@pytest.mark.contract("P6.11")
async def test_lists_leave_out_the_jobs_of_other_owners(pgq: PgQueue) -> None:
    @pgq.task(name="fail", max_retries=0)
    async def fail(message: str) -> None:
        raise ValueError(message)

    mine = await fail.options(tags=["ann"]).enqueue("mine")
    theirs = await fail.options(tags=["bob"]).enqueue("theirs")
    async with pgq.worker():
        with anyio.fail_after(60):
            await pgq.wait(mine.id)
            await pgq.wait(theirs.id)
    app = status_app(
        pgq,
        owns=owner_of,
        actor=user_of,
        authorize=lambda _, action, resource: ":" in resource or action == "read",
    )

    async with client_of(app, headers={"X-User": "ann"}) as client:
        jobs = (await client.get("/jobs")).json()["jobs"]
        letters = (await client.get("/dead-letters")).json()["dead_letters"]
        refused = [
            await client.post(f"/dead-letters/{theirs.id}/redrive"),
            await client.post(f"/dead-letters/{theirs.id}/discard"),
            await client.post(f"/jobs/{theirs.id}/requeue"),
            await client.get(f"/dead-letters/{theirs.id}"),
            await client.get(f"/jobs/{theirs.id}/attempts"),
            await client.get(f"/jobs/{theirs.id}/actions"),
        ]
        everybodys = await client.post("/jobs/cancel", json={"all": True})

    assert [job["job_id"] for job in jobs] == [str(mine.id)]
    assert [letter["job_id"] for letter in letters] == [str(mine.id)]
    assert all(is_problem(response, 404, f"there is no job {theirs.id}") for response in refused)
    assert is_problem(everybodys, 403)
    assert await theirs.status() is JobStatus.FAILED


@pytest.mark.contract("P6.11")
async def test_collections_need_the_hook_or_the_token_if_jobs_have_owners(pgq: PgQueue) -> None:
    paths = ["/dead-letters/groups", "/workers", f"/redrives/{uuid4()}"]

    async with client_of(status_app(pgq, local_reading=True, owns=owner_of, actor=user_of)) as client:
        without = [await client.get(path) for path in paths]
    allowing = status_app(
        pgq, local_reading=True, owns=owner_of, actor=user_of, authorize_shared=lambda *_: True
    )
    async with client_of(allowing) as client:
        allowed = [(await client.get(path)).status_code for path in paths]
        changed = await client.post("/jobs/cancel", json={"all": True})

    assert all(is_problem(response, 403, "this covers all", "not only yours") for response in without)
    assert allowed == [200, 200, 404]
    assert changed.status_code == 200


# Paths and methods


async def test_a_wrong_method_is_told_those_that_there_are(client: httpx.AsyncClient) -> None:
    allowed = {
        ("DELETE", "/jobs"): {"GET", "HEAD"},
        ("GET", "/jobs/cancel"): {"POST"},
        ("POST", "/dead-letters/groups"): {"GET", "HEAD"},
        ("GET", "/tasks/work/pause"): {"POST"},
    }

    answers = {(method, path): await client.request(method, path) for method, path in allowed}

    for (method, path), response in answers.items():
        assert is_problem(response, 405, method)
        assert allowed[method, path] <= set(response.headers["allow"].split(", "))


async def test_an_invalid_body_changes_nothing(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    json, text = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}
    impossible: list[tuple[int, bytes, dict[str, str]]] = [
        (415, b"{}", text),
        (422, b"{", json),
        (422, b"[]", json),
        (422, b'{"reason": 7}', json),
        (422, b'{"because": "of this"}', json),
        (413, b" " * (1024 * 1024 + 1), json),
    ]

    for status, content, headers in impossible:
        response = await client.post("/tasks/work/pause", content=content, headers=headers)
        assert is_problem(response, status, "body")

    assert await pgq.settings() == []
