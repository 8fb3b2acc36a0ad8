"""The status app: jobs, metrics and health over HTTP."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from dataclasses import fields
from uuid import UUID

import anyio
import httpx
import pytest
from kit import inside
from kit.faults import lossy_proxy
from kit.waiting import eventually
from kit.web_client import client_of
from starlette.applications import Starlette
from starlette.routing import Mount

from pgqueue import JobHandle, JobStatus, PgQueue
from pgqueue.model.ids import new_id
from pgqueue.web import status_app
from pgqueue.web.settings import WebSettings


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(status_app(pgq, local_reading=True)) as client:
        yield client


async def ended(pgq: PgQueue, job: JobHandle[object]) -> None:
    """Run a worker until *job* is over."""
    async with pgq.worker():
        with anyio.fail_after(60):
            await pgq.wait(job.id)


async def test_a_pending_job_shows_when_it_was_made_and_nothing_more(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task(queue="mail")
    async def send(to: str) -> None: ...

    job = await send.enqueue("user@example.com")

    response = await client.get(f"/jobs/{job.id}")

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    created_at = (await job.refresh()).created_at
    assert response.json() == {
        "job_id": str(job.id),
        "status": "pending",
        "is_terminal": False,
        "created_at": created_at.isoformat(),
        "started_at": None,
        "completed_at": None,
        "next_run_at": None,
        "waits_for_limit": None,
        "result": None,
        "result_size": None,
        "result_url": None,
        "error": None,
        "progress": None,
        "queue": "mail",
        "task": "send",
        "attempt": 0,
        "max_attempts": 4,
        "losses": 0,
        "undecodable": [],
    }


async def test_a_job_that_succeeded_shows_its_result(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task
    async def add(a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    job = await add.enqueue(1, 2)
    await ended(pgq, job)

    shown = (await client.get(f"/jobs/{job.id}")).json()

    assert (shown["status"], shown["is_terminal"], shown["result"]) == ("succeeded", True, {"sum": 3})
    assert shown["created_at"] <= shown["started_at"] <= shown["completed_at"]
    assert shown["error"] is None
    assert shown["attempt"] == 1


async def test_a_job_that_failed_shows_type_and_message_but_no_traceback(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError("no such account")

    job = await fail.enqueue()
    await ended(pgq, job)

    response = await client.get(f"/jobs/{job.id}")

    shown = response.json()
    assert shown["status"] == "failed"
    assert shown["is_terminal"] is True
    assert shown["error"] == {"type": "ValueError", "message": "no such account"}
    assert shown["result"] is None
    assert "Traceback" not in response.text


async def test_a_job_that_waits_to_retry_shows_when_it_runs_next_and_no_error(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task(max_retries=1, default_retry_delay=3600)
    async def fail() -> None:
        raise ValueError("not yet")

    job = await fail.enqueue()

    async def is_scheduled() -> bool:
        return await job.status() is JobStatus.SCHEDULED

    async with pgq.worker():
        await eventually(is_scheduled)

    shown = (await client.get(f"/jobs/{job.id}")).json()

    assert (shown["status"], shown["is_terminal"], shown["attempt"]) == ("scheduled", False, 1)
    assert shown["next_run_at"] == (await job.refresh()).next_run_at.isoformat()  # type: ignore[union-attr]  # it is scheduled
    assert shown["error"] is None


async def test_an_unknown_job_is_a_404_problem(client: httpx.AsyncClient) -> None:
    unknown = new_id()

    response = await client.get(f"/jobs/{unknown}")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": f"there is no job {unknown}",
    }


@pytest.mark.parametrize("malformed", ["7", "latest", "0190-x", "%00"])
async def test_a_malformed_job_id_is_a_422_problem(client: httpx.AsyncClient, malformed: str) -> None:
    response = await client.get(f"/jobs/{malformed}")

    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert "is not a job id" in response.json()["detail"]


async def test_what_is_not_a_route_is_a_problem_too(client: httpx.AsyncClient) -> None:
    nowhere = await client.get("/nowhere")
    wrong_method = await client.post("/livez")

    assert (nowhere.status_code, nowhere.headers["content-type"]) == (404, "application/problem+json")
    assert (wrong_method.status_code, wrong_method.json()["status"]) == (405, 405)
    assert set(wrong_method.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_the_app_can_be_mounted_in_another(pgq: PgQueue) -> None:
    outer = Starlette(routes=[Mount("/queue", app=status_app(pgq, local_reading=True))])

    async with client_of(outer) as client:
        alive = await client.get("/queue/livez")
        unknown = await client.get(f"/queue/jobs/{UUID(int=0)}")

    assert alive.status_code == 200
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")


async def test_metrics_are_served_in_the_format_of_prometheus(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task
    async def wait() -> None: ...

    await wait.enqueue()

    response = await client.get("/metrics")

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert 'pgqueue_queue_jobs{queue="default",status="pending"} 1.0' in response.text.splitlines()


async def test_a_process_without_workers_is_ready_when_its_database_answers(
    client: httpx.AsyncClient,
) -> None:
    response = await client.get("/readyz")

    assert (response.status_code, response.json()) == (200, {"status": "ready"})


@pytest.mark.contract("BP13")
async def test_a_process_is_not_ready_while_its_worker_is_not_claiming(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    started, go_on = anyio.Event(), anyio.Event()

    @pgq.task
    async def hold() -> None:
        started.set()
        await go_on.wait()

    await hold.enqueue()
    async with pgq.worker(name="winding down") as worker:
        with anyio.fail_after(60):
            await started.wait()
        while_working = await client.get("/readyz")
        worker.stop()
        while_stopping = await client.get("/readyz")
        go_on.set()
    after = await client.get("/readyz")

    assert while_working.status_code == 200
    assert while_stopping.status_code == 503
    assert while_stopping.json()["detail"] == "worker winding down is not claiming jobs"
    assert after.status_code == 200


@pytest.mark.contract("BP13")
async def test_an_unavailable_database_makes_the_process_unready_but_not_dead(dsn: str) -> None:
    async with lossy_proxy(dsn) as proxy:
        pgq = PgQueue(proxy.dsn)
        await pgq.open()
    inside.database(pgq).connect_timeout = 0.2
    try:
        async with client_of(status_app(pgq, local_reading=True)) as client:
            ready = await client.get("/readyz")
            alive = await client.get("/livez")
            job = await client.get(f"/jobs/{new_id()}")
            metrics = await client.get("/metrics")
    finally:
        await pgq.close()

    assert (ready.status_code, ready.json()["detail"]) == (503, "the database is unavailable")
    assert alive.status_code == 200
    assert (job.status_code, job.headers["content-type"]) == (503, "application/problem+json")
    assert dsn.rpartition("=")[2] not in job.text
    assert "pgqueue_database_up 0.0" in metrics.text.splitlines()
    assert "pgqueue_jobs_pending{" not in metrics.text


async def test_a_process_whose_pgqueue_is_not_open_is_not_ready(dsn: str) -> None:
    async with client_of(status_app(PgQueue(dsn), local_reading=True)) as client:
        response = await client.get("/readyz")

    assert (response.status_code, response.json()["detail"]) == (503, "pgqueue is not open")


def test_settings_are_the_arguments_of_the_app() -> None:
    arguments = inspect.signature(status_app).parameters

    assert list(arguments) == ["pgq", *(setting.name for setting in fields(WebSettings))]
    with pytest.raises(TypeError, match="tokenn"):
        status_app(PgQueue("postgresql://nowhere/app"), tokenn="secret")  # type: ignore[call-arg]  # the test
