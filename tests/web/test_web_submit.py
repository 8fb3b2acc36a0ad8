"""`POST /jobs`: calls over HTTP."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
from fastapi import FastAPI
from kit.web_client import client_of
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from pgqueue import FROM_ARGUMENTS, InvalidOptionError, Job, JobStatus, KeyInFlightError, PgQueue
from pgqueue.model.ids import new_id
from pgqueue.web import status_app
from pgqueue.web.api.submit import DIGEST

if TYPE_CHECKING:
    from conftest import Connection

TOKEN = {"authorization": "Bearer a-secret-for-tests"}


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    @pgq.task(queue="sums", headers={"origin": "task"})
    async def add(a: int, b: int = 0) -> int:
        return a + b

    async with client_of(status_app(pgq, token="a-secret-for-tests"), headers=TOKEN) as client:
        yield client


async def count_jobs(pgq: PgQueue) -> int:
    return len((await pgq.jobs()).jobs)


@pytest.mark.contract("P6.1", "P6.15")
async def test_a_submission_is_accepted_with_the_place_to_poll(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    accepted = await client.post("/jobs", json={"task": "add", "arguments": {"a": 1, "b": 2}})
    async with pgq.worker():
        with anyio.fail_after(60):
            [job] = (await pgq.jobs()).jobs
            await pgq.wait(job.id)
    polled = await client.get(accepted.headers["location"])

    assert accepted.status_code == 202
    assert accepted.json() == {
        "job_id": str(job.id),
        "status": "pending",
        "poll_url": f"/jobs/{job.id}",
    }
    assert accepted.headers["location"] == f"/jobs/{job.id}"
    assert int(accepted.headers["retry-after"]) >= 1
    assert accepted.headers["cache-control"] == "no-store"
    assert (polled.json()["status"], polled.json()["result"]) == ("succeeded", 3)
    assert polled.json()["queue"] == "sums"


async def test_arguments_can_be_given_by_position(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    await client.post("/jobs", json={"task": "add", "arguments": [1, 2]})

    [job] = (await pgq.jobs()).jobs
    assert job.arguments == {"a": 1, "b": 2}


async def test_a_call_can_be_given_the_options_that_a_program_can_give(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    chosen = new_id()
    run_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)

    accepted = await client.post(
        "/jobs",
        json={
            "task": "add",
            "arguments": {"a": 1},
            "queue": "other",
            "priority": 7,
            "run_at": run_at.isoformat(),
            "expires": 200_000,
            "tags": ["x", "y"],
            "key": "k",
            "id": str(chosen),
            "headers": {"trace": "1"},
            "max_retries": 1,
        },
    )

    job = await pgq.get(chosen)
    assert (accepted.status_code, accepted.json()["status"]) == (202, "scheduled")
    assert (job.queue, job.priority, job.run_at, job.tags, job.key) == ("other", 7, run_at, ("x", "y"), "k")
    assert (job.headers, job.max_attempts) == ({"trace": "1"}, 2)
    assert job.expires_at is not None


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["task"]),
        ({"task": "add", "arguments": {"a": "x", "b": "y"}}, ["arguments.a", "arguments.b"]),
        ({"task": "add", "arguments": {"a": 1, "c": 1}}, ["arguments.c"]),
        ({"task": "add", "arguments": 7}, None),
        ({"task": "add", "arguments": [1], "priority": 100_000, "queue": ""}, ["queue", "priority"]),
        ({"task": "add", "arguments": [1], "proirity": 1}, ["proirity"]),
        ({"task": "add", "arguments": [1], "run_at": "tomorrow"}, ["run_at"]),
        ({"task": "add", "arguments": [1], "id": "7"}, ["id"]),
        ({"task": "nobody.knows", "arguments": [1]}, ["task"]),
        ({"task": "add", "arguments": [1], "delay": 1, "run_at": "2030-01-01T00:00:00Z"}, None),
        ({"task": "add", "arguments": [1], "idempotency_scope": "global"}, ["idempotency_scope"]),
    ],
)
async def test_a_body_that_does_not_fit_is_a_422_that_names_the_fields(
    pgq: PgQueue, client: httpx.AsyncClient, body: Mapping[str, Any], fields: list[str] | None
) -> None:
    response = await client.post("/jobs", json=body)

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    if fields is not None:
        assert {each["field"] for each in response.json()["errors"]} == set(fields)
    assert await count_jobs(pgq) == 0


async def test_what_was_given_is_not_repeated_in_the_problem(client: httpx.AsyncClient) -> None:
    response = await client.post("/jobs", json={"task": "add", "arguments": {"a": "my secret"}})

    assert response.status_code == 422
    assert "my secret" not in response.text


async def test_undeclared_tasks_can_be_allowed(pgq: PgQueue) -> None:
    async with client_of(
        status_app(pgq, token="a-secret-for-tests", allow_unknown_tasks=True), headers=TOKEN
    ) as client:
        response = await client.post("/jobs", json={"task": "elsewhere", "arguments": {"options": 1}})

    [job] = (await pgq.jobs()).jobs
    assert (response.status_code, job.task, job.arguments) == (202, "elsewhere", {"options": 1})
    assert job.max_attempts is None


async def test_an_id_that_is_taken_is_refused(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    body = {"task": "add", "arguments": [1], "id": str(new_id())}

    first, again = await client.post("/jobs", json=body), await client.post("/jobs", json=body)

    assert (first.status_code, again.status_code) == (202, 409)


async def test_arguments_that_are_too_large_are_a_413(dsn: str) -> None:
    async with PgQueue(dsn, payload_limit=100) as pgq:

        @pgq.task
        async def take(text: str) -> None: ...

        async with client_of(status_app(pgq, token="a-secret-for-tests"), headers=TOKEN) as client:
            response = await client.post("/jobs", json={"task": "take", "arguments": ["x" * 200]})

    assert response.status_code == 413


async def test_submitting_needs_permission(pgq: PgQueue) -> None:
    asked: list[tuple[str, str]] = []

    def authorize(_: Request, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return resource != "task:secret"

    @pgq.task
    async def secret() -> None: ...

    closed, hooked = status_app(pgq, local_reading=True), status_app(pgq, authorize=authorize)
    async with client_of(closed, headers=TOKEN) as at_closed, client_of(hooked, headers=TOKEN) as at_hooked:
        refused = await at_closed.post("/jobs", json={"task": "secret"})
        forbidden = await at_hooked.post("/jobs", json={"task": "secret"})

    assert (refused.status_code, forbidden.status_code) == (403, 403)
    assert asked == [("enqueue", "jobs"), ("enqueue", "task:secret")]
    assert await count_jobs(pgq) == 0


# Idempotency-Key


@pytest.mark.contract("P6.9")
async def test_the_same_key_and_body_are_answered_with_the_same_job(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    body = {"task": "add", "arguments": {"a": 1}, "priority": 3}
    headers = {"idempotency-key": '"8e03978e-40d5"'}

    first = await client.post("/jobs", json=body, headers=headers)
    again = await client.post("/jobs", json=body, headers=headers)
    reordered = await client.post(
        "/jobs", json=dict(reversed(body.items())), headers={"idempotency-key": "8e03978e-40d5"}
    )

    assert [each.status_code for each in (first, again, reordered)] == [202, 202, 202]
    assert first.json() == again.json() == reordered.json()
    assert first.headers["location"] == again.headers["location"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert await count_jobs(pgq) == 1


@pytest.mark.contract("P6.9")
@pytest.mark.parametrize(
    "other",
    [
        {"task": "add", "arguments": {"a": 2}},
        {"task": "other", "arguments": {"a": 1}},
        {"task": "add", "arguments": {"a": 1}, "priority": 3},
    ],
)
async def test_the_same_key_with_another_body_is_a_422(
    pgq: PgQueue, client: httpx.AsyncClient, other: Mapping[str, Any]
) -> None:
    @pgq.task(name="other")
    async def another(a: int) -> None: ...

    headers = {"idempotency-key": "k"}
    first = await client.post("/jobs", json={"task": "add", "arguments": {"a": 1}}, headers=headers)

    response = await client.post("/jobs", json=other, headers=headers)

    assert response.status_code == 422
    assert "another body" in response.json()["detail"]
    assert first.json()["job_id"] not in response.text
    assert await count_jobs(pgq) == 1


@pytest.mark.contract("P6.9")
async def test_a_key_that_is_being_taken_is_a_409_until_it_is(
    pgq: PgQueue, client: httpx.AsyncClient, db: Connection
) -> None:
    body, headers = {"task": "add", "arguments": {"a": 1}}, {"idempotency-key": "k"}
    call = pgq.signature("add", a=1, options={"idempotency_key": "k", "idempotency_scope": "tenant:http:"})

    async with db.transaction():
        held = await pgq.enqueue(call, connection=db)
        with anyio.fail_after(60):
            in_flight = await client.post("/jobs", json=body, headers=headers)
    after = await client.post("/jobs", json=body, headers=headers)

    assert (in_flight.status_code, in_flight.headers["retry-after"]) == (409, "1")
    assert (after.status_code, after.json()["job_id"]) == (202, str(held.id))
    assert await count_jobs(pgq) == 1


async def test_a_program_that_would_not_wait_for_a_key_is_told_so(pgq: PgQueue, db: Connection) -> None:
    call = pgq.signature("work", options={"idempotency_key": "k"})
    other = pgq.signature("work", options={"idempotency_key": "other"})

    async with db.transaction():
        await pgq.enqueue(call, connection=db)
        with (
            anyio.fail_after(60),
            pytest.raises(KeyInFlightError, match=r"still locked .* after 0\.05 s"),
        ):
            await pgq.enqueue(call, key_wait=0.05)
        unheld = await pgq.enqueue(other, key_wait=0.05)
    with pytest.raises(InvalidOptionError, match="key_wait"):
        await pgq.enqueue(call, key_wait=0)

    assert unheld.created
    assert await count_jobs(pgq) == 2


@pytest.mark.contract("P6.9")
async def test_a_missing_or_invalid_required_key_is_a_400(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    app = status_app(pgq, token="a-secret-for-tests", require_idempotency_key=True)
    async with client_of(app, headers=TOKEN) as client:
        keys = [None, "", '""', "k" * 513, "k\tk", "k" * 512]
        answers = [
            await client.post(
                "/jobs",
                json={"task": "work"},
                headers={} if key is None else {"idempotency-key": key},
            )
            for key in keys
        ]
        twice = await client.post(
            "/jobs",
            content=b'{"task": "work"}',
            headers=[("content-type", "application/json"), *[("idempotency-key", "k")] * 2],
        )

    assert [each.status_code for each in answers] == [400, 400, 400, 400, 400, 202]
    assert twice.status_code == 400
    assert await count_jobs(pgq) == 1


@pytest.mark.contract("P6.9", "P6.11")
async def test_two_users_can_use_one_key_without_meeting(pgq: PgQueue) -> None:
    @pgq.task
    async def work(number: int) -> None: ...

    app = status_app(
        pgq,
        authorize=lambda *_: True,
        actor=lambda request: request.headers["user"],
        job_headers=lambda request: {"user": request.headers["user"]},
        owns=lambda request, job: job.headers["user"] == request.headers["user"],
    )
    body = {"task": "work", "arguments": [1], "headers": {"user": "ann"}}
    async with client_of(app, headers=TOKEN) as client:
        answers = [
            await client.post("/jobs", json=body, headers={"idempotency-key": "k", "user": user})
            for user in ("ann", "bob", "bob")
        ]
        anns, bobs, again = answers
        seen = await client.get(anns.headers["location"], headers={"user": "bob"})
        owned = await client.get(bobs.headers["location"], headers={"user": "bob"})

    assert [each.status_code for each in answers] == [202, 202, 202]
    assert anns.json()["job_id"] != bobs.json()["job_id"] == again.json()["job_id"]
    # Whatever the body says: whose a job is, the service says.
    assert (seen.status_code, owned.status_code) == (404, 200)


@pytest.mark.contract("P6.11")
async def test_another_users_key_gives_nothing_away(pgq: PgQueue) -> None:
    @pgq.task(idempotency_key=FROM_ARGUMENTS)
    async def work(number: int) -> None: ...

    def owns(request: Request, job: Job) -> bool:
        return job.headers["user"] == request.headers["user"]

    app = status_app(
        pgq,
        authorize=lambda *_: True,
        actor=lambda request: request.headers["user"],
        job_headers=lambda request: {"user": request.headers["user"]},
        owns=owns,
    )
    body = {"task": "work", "arguments": [1]}
    async with client_of(app, headers=TOKEN) as client:
        anns = await client.post("/jobs", json=body, headers={"idempotency-key": "k", "user": "ann"})
        bobs = await client.post("/jobs", json=body, headers={"idempotency-key": "k", "user": "bob"})
        made_of_arguments = [
            await client.post("/jobs", json=body, headers={"user": user}) for user in ("ann", "bob")
        ]

    assert (anns.status_code, bobs.status_code) == (202, 202)
    assert anns.json()["job_id"] != bobs.json()["job_id"]
    assert [each.status_code for each in made_of_arguments] == [202, 202]


async def test_a_clients_keys_are_not_those_of_programs(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    ours = await pgq.enqueue_by_name("add", 1, options={"idempotency_key": "k"})

    response = await client.post(
        "/jobs", json={"task": "add", "arguments": [1]}, headers={"idempotency-key": "k"}
    )

    assert response.json()["job_id"] != str(ours.id)


async def test_a_key_outlives_its_job(pgq: PgQueue, client: httpx.AsyncClient, db: Connection) -> None:
    body, headers = {"task": "add", "arguments": [1], "tags": ["a"]}, {"idempotency-key": "k"}
    first = await client.post("/jobs", json=body, headers=headers)
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute("delete from pgqueue.ready; delete from pgqueue.job")

    again = await client.post("/jobs", json=body, headers=headers)

    assert (again.status_code, again.json()) == (202, {**first.json(), "status": None})


async def test_what_marks_a_submission_does_not_displace_its_headers(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    await client.post(
        "/jobs", json={"task": "add", "arguments": [1], "tags": ["a"]}, headers={"idempotency-key": "k"}
    )

    [job] = (await pgq.jobs()).jobs
    assert job.headers.keys() == {"origin", DIGEST}


@pytest.mark.contract("W28")
@pytest.mark.parametrize(("days", "status"), [(-40, 422), (-0.9, 202), (0.9, 202), (1.5, 422), (60, 422)])
async def test_an_id_has_a_time_near_now(client: httpx.AsyncClient, days: float, status: int) -> None:
    milliseconds = int((time.time() + days * 86_400) * 1000)
    chosen = UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | 42)

    answer = await client.post("/jobs", json={"task": "add", "arguments": [1], "id": str(chosen)})

    assert answer.status_code == status
    if status == 422:
        assert answer.json()["errors"][0]["field"] == "id"
        assert "within a day of now" in answer.json()["detail"]


@pytest.mark.contract("W28")
async def test_an_id_without_a_time_is_taken(client: httpx.AsyncClient) -> None:
    answer = await client.post("/jobs", json={"task": "add", "arguments": [1], "id": str(uuid4())})

    assert answer.status_code == 202


# Mounted


@pytest.mark.contract("P6.15", "P6.1")
@pytest.mark.parametrize("name", [None, "queue"])
@pytest.mark.parametrize("framework", [Starlette, FastAPI])
async def test_the_app_can_be_mounted_in_a_service(
    pgq: PgQueue, framework: type[Starlette | FastAPI], name: str | None
) -> None:
    @pgq.task
    async def add(a: int, b: int) -> int:
        return a + b

    app = status_app(pgq, token="a-secret-for-tests")
    service = framework(routes=[Mount("/api queue", app=app, name=name)])
    async with client_of(service, headers=TOKEN) as client:
        accepted = await client.post("/api queue/jobs", json={"task": "add", "arguments": [1, 2]})
        assert accepted.status_code == 202
        polled = await client.get(accepted.headers["location"])
        cancelled = await client.post(accepted.headers["location"] + "/cancel")

    assert accepted.headers["location"] == f"/api%20queue/jobs/{accepted.json()['job_id']}"
    assert (polled.status_code, polled.json()["status"]) == (200, "pending")
    assert (cancelled.status_code, cancelled.headers["location"]) == (200, accepted.headers["location"])


@pytest.mark.contract("P6.15")
async def test_fastapi_mounts_it_below_its_own_routes(pgq: PgQueue) -> None:
    @pgq.task
    async def add(a: int, b: int) -> int:
        return a + b

    service = FastAPI()

    @service.post("/sums", status_code=202)
    async def submit(a: int, b: int) -> dict[str, str]:
        job = await add.enqueue(a, b)
        return {"poll_url": f"/queue/jobs/{job.id}"}

    service.mount("/queue", status_app(pgq, token="a-secret-for-tests"))
    async with client_of(service, headers=TOKEN) as client, pgq.worker():
        made = await client.post("/sums?a=1&b=2")
        job_id = made.json()["poll_url"].rpartition("/")[2]
        with anyio.fail_after(60):
            [job] = (await pgq.jobs()).jobs
            await pgq.wait(job.id)
        polled = await client.get(made.json()["poll_url"])

    assert (polled.json()["job_id"], polled.json()["result"]) == (job_id, 3)
    assert job.status in set(JobStatus)
