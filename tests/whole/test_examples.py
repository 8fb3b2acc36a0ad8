"""The examples run, and keep the promises that they are there to show."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import httpx
import pytest
from kit.waiting import eventually

from pgqueue import JobFailed, JobHandle, JobStatus

if TYPE_CHECKING:
    from conftest import Connection

EXAMPLES = Path(__file__).parents[2] / "examples"
TESTED = {
    "quick_start",
    "export",
    "payments",
    "orders",
    "job_states",
    "webhooks",
    "status_endpoint",
    "workflows",
    "fastapi_service",  # in integrations/test_asgi.py
}


@pytest.fixture
async def example(
    request: pytest.FixtureRequest, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Any]:
    """An example as a module of its own, on the test's database, open."""
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("PGQUEUE_TOKEN", "a-secret-for-tests")
    module = load(request.param)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    async with module.pgq:
        yield module


def load(name: str) -> ModuleType:
    """Import an example anew."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.any_server
@pytest.mark.contract("P8.9")
def test_the_service_passes_its_own_tests(server: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pytest_pgqueue", "-p", "no:cacheprovider"],
        cwd=EXAMPLES / "service",
        env={
            **os.environ,
            "PYTHONPATH": str(EXAMPLES.parent),
            "PYTEST_ADDOPTS": "",
            "PGQUEUE_TEST_SERVER": server,
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
    # As its README says.
    assert len((EXAMPLES / "service/shop.py").read_text().splitlines()) <= 150


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == TESTED


@pytest.mark.contract("P1.1")
@pytest.mark.parametrize("example", ["quick_start"], indirect=True)
async def test_the_mail_is_sent_by_a_worker_and_not_by_the_request(example: Any) -> None:
    await example.sign_up("user@example.com")
    before = list(example.email_client.sent)

    async with example.pgq.worker():
        await eventually(lambda: is_true(example.email_client.sent))

    assert before == []
    assert example.email_client.sent == [("user@example.com", "Welcome!", "Thanks for signing up")]


@pytest.mark.contract("P1.1", "P1.2", "P1.3")
@pytest.mark.parametrize("example", ["export"], indirect=True)
async def test_an_export_answers_with_an_id_and_leaves_no_job_where_its_record_cannot_be_written(
    example: Any, db: Connection
) -> None:
    await db.execute("create table export_request (job_id uuid, target text check (target <> 'x'))")

    response = await example.start_export(db, example.ExportRequest(table="users", rows=3))
    with pytest.raises(Exception, match="export_request_target_check"):
        await example.start_export(db, example.ExportRequest(table="x", rows=3))
    job_id = await db.fetchval("select job_id from export_request")
    async with example.pgq.worker():
        result = await example.pgq.handle(job_id).result(timeout=60)

    assert response.model_dump() == {
        "job_id": str(job_id),
        "status": "pending",
        "poll_url": f"/jobs/{job_id}",
    }
    assert result == {"file": "users.csv", "rows": 3}
    assert await db.fetchval("select count(*) from pgqueue.job") == 1


class Gateway:
    """A payment provider that charges each key once. The answers to its first charges can be lost."""

    def __init__(self, module: Any, *, declines: bool = False, lost_answers: int = 0) -> None:
        self.module = module
        self.declines = declines
        self.lost_answers = lost_answers
        self.calls: list[str] = []

    async def charge(self, payment_id: str, *, idempotency_key: str) -> Any:
        if self.declines:
            raise self.module.PaymentDeclinedError("expired card")
        self.calls.append(idempotency_key)
        if len(self.calls) <= self.lost_answers:
            raise self.module.TransientError("busy")
        return self.module.Charge(f"tx-{payment_id}")


class DeadGateway:
    """A payment provider that nobody reaches."""

    async def charge(self, payment_id: str, *, idempotency_key: str) -> Any:
        raise ConnectionError


@pytest.mark.contract("BP4", "P3.9", "P2.31")
@pytest.mark.parametrize("example", ["payments"], indirect=True)
async def test_a_payment_is_retried_after_60_120_and_240_seconds_under_one_key(
    example: Any, db: Connection
) -> None:
    gateway = example.payment_gateway = Gateway(example, lost_answers=3)

    job = await example.process_payment.enqueue("p1")
    waits = []
    async with example.pgq.worker(poll_interval=0.05):
        for attempt in (1, 2, 3):
            waits.append(await wait_of(example.pgq, job, attempt))
            await make_due(db, job)
        assert await job.result(timeout=60) == {"status": "success", "transaction_id": "tx-p1"}

    assert waits == [60, 120, 240]
    assert gateway.calls == [str(job.id)] * 4


@pytest.mark.contract("P2.37")
@pytest.mark.parametrize("example", ["payments"], indirect=True)
async def test_a_declined_payment_is_an_answer_and_a_lost_connection_a_retry(example: Any) -> None:
    example.payment_gateway = Gateway(example, declines=True)

    async with example.pgq.worker():
        declined = await example.process_payment.enqueue("p1")
        result = await declined.result(timeout=60)
        example.payment_gateway = DeadGateway()
        lost = await example.process_payment.enqueue("p2")
        await wait_of(example.pgq, lost, 1)

    assert result == {"status": "declined", "reason": "expired card"}
    assert await declined.status() is JobStatus.SUCCEEDED
    assert (await lost.refresh()).last_reason == "exception"


class Provider:
    """A payment provider that charges each key once, and counts how often it is asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def charge(self, amount: int, *, idempotency_key: str) -> str:
        self.calls.append(idempotency_key)
        return f"tx-{idempotency_key}"


@pytest.mark.contract("BP4", "P3.1")
@pytest.mark.parametrize("example", ["orders"], indirect=True)
async def test_an_order_is_charged_once_however_many_jobs_it_has(example: Any, db: Connection) -> None:
    await db.execute(example.SCHEMA)
    await db.execute("insert into orders values ('o1', 120)")
    provider = example.payment_provider = Provider()

    jobs = await example.pgq.enqueue_many([example.process_order.s("o1") for _ in range(4)])
    async with example.pgq.worker():
        for job in jobs:
            await job.result(timeout=60)

    order = await db.fetchrow("select status, transaction_id from orders")
    assert tuple(order or ()) == ("completed", "tx-order-o1")
    assert provider.calls == ["order-o1"]


@pytest.mark.contract("BP4")
@pytest.mark.parametrize("example", ["orders"], indirect=True)
async def test_an_order_whose_record_cannot_be_written_is_charged_under_the_same_key(
    example: Any, db: Connection
) -> None:
    await db.execute(example.SCHEMA)
    await db.execute("insert into orders values ('o1', 120)")
    await db.execute("alter table orders add constraint not_yet check (status <> 'completed')")
    provider = example.payment_provider = Provider()

    job = await example.process_order.options(default_retry_delay=3600).enqueue("o1")
    async with example.pgq.worker(poll_interval=0.05):
        await wait_of(example.pgq, job, 1)
        await db.execute("alter table orders drop constraint not_yet")
        await make_due(db, job)
        await job.result(timeout=60)

    assert await db.fetchval("select status from orders") == "completed"
    assert set(provider.calls) == {"order-o1"}


@pytest.mark.contract("P3.2")
@pytest.mark.parametrize("example", ["orders"], indirect=True)
async def test_an_order_that_is_placed_again_has_the_job_that_it_had(example: Any) -> None:
    once, again, other = [await example.place_order(order_id) for order_id in ("o1", "o1", "o2")]

    assert once == again
    assert once != other


@pytest.mark.contract("P3.11")
@pytest.mark.parametrize("example", ["orders"], indirect=True)
async def test_an_event_that_comes_again_is_booked_once(example: Any, db: Connection) -> None:
    await db.execute(example.SCHEMA)
    await db.execute("insert into stock values ('book', 1)")

    async with example.pgq.worker():
        for event_id in ("e1", "e1", "e2", "e1"):
            await (await example.book_delivery.enqueue(event_id, "book", 10)).result(timeout=60)

    assert await db.fetchval("select amount from stock") == 21


@pytest.mark.parametrize("example", ["orders"], indirect=True)
async def test_an_upsert_that_runs_twice_writes_what_one_writes(example: Any, db: Connection) -> None:
    await db.execute(example.SCHEMA)

    async with example.pgq.worker():
        for _ in range(2):
            await (await example.set_stock.enqueue("book", 7)).result(timeout=60)

    assert [tuple(row) for row in await db.fetch("select * from stock")] == [("book", 7)]


@pytest.mark.contract("BP7", "P1.8")
@pytest.mark.parametrize("example", ["job_states"], indirect=True)
async def test_a_job_tells_its_state_and_logs_each_transition(example: Any) -> None:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    example.set_up_logging(handler)

    try:
        job = await example.import_file.enqueue("a.csv")
        first = await example.history(job.id)
        async with example.pgq.worker():
            assert await job.result(timeout=60) == 5
            await eventually(lambda: is_true("job.succeeded" in output.getvalue()))
    finally:
        for name in ("pgqueue.jobs", example.__name__):
            logging.getLogger(name).removeHandler(handler)
            logging.getLogger(name).setLevel(logging.NOTSET)

    last = await example.history(job.id)
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    assert (first["status"], first["started_at"], first["failed_attempts"]) == ("pending", None, [])
    assert (last["status"], last["result"], last["failed_attempts"]) == ("succeeded", 5, [(1, "exception")])
    assert last["created_at"] <= last["started_at"] <= last["completed_at"]
    assert {line["job_id"] for line in lines} == {str(job.id)}
    said = [line.get("event", line["message"]) for line in lines]
    # It may be claimed before the worker that promoted it has heard that it did.
    said.remove("job.promoted")
    assert said == [
        "job.enqueued",
        "job.started",
        "importing",
        "job.retrying",
        "job.started",
        "importing",
        "job.succeeded",
    ]


@pytest.mark.contract("P5.1", "P5.2", "P2.32")
@pytest.mark.parametrize("example", ["webhooks"], indirect=True)
async def test_a_webhook_that_nobody_takes_is_a_dead_letter_and_can_be_sent_again(
    example: Any, db: Connection
) -> None:
    answers: list[str | None] = ["500"] * 4
    sent: list[Any] = []

    class Sender:
        async def send(self, payload: Any, *, idempotency_key: str) -> str | None:
            sent.append((payload, idempotency_key))
            return answers.pop(0) if answers else None

    example.sender = Sender()
    job = await example.process_webhook.enqueue("w1", {"paid": True})
    waits = []
    async with example.pgq.worker(poll_interval=0.05):
        for attempt in (1, 2, 3):
            waits.append(await wait_of(example.pgq, job, attempt))
            await make_due(db, job)
        with pytest.raises(JobFailed, match="WebhookFailedError: 500"):
            await job.result(timeout=60)
        [entry] = await example.entries()
        await example.send_again(job.id, actor="ann")
        await job.result(timeout=60)

    failed_at = entry.pop("failed_at")
    assert failed_at.endswith("+00:00")
    assert entry == {
        "task": "process_webhook",
        "webhook_id": "w1",
        "payload": {"paid": True},
        "error": "500",
        "attempts": 4,
    }
    assert waits == [60, 120, 240]
    assert sent == [({"paid": True}, "webhook-w1")] * 5
    assert await example.entries() == []


@pytest.mark.contract("P6.2", "P6.3", "P6.4")
@pytest.mark.parametrize("example", ["status_endpoint"], indirect=True)
async def test_the_endpoint_says_where_a_job_stands(example: Any) -> None:
    transport = httpx.ASGITransport(app=example.app)
    job, cancelled = await example.add.enqueue(1, 2), await example.add.enqueue(3, 4)
    await cancelled.cancel()

    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        pending = (await client.get(f"/jobs/{job.id}")).json()
        async with example.pgq.worker():
            await job.result(timeout=60)
        done, never = [(await client.get(f"/jobs/{each.id}")).json() for each in (job, cancelled)]
        unknown, malformed = await client.get(f"/jobs/{uuid4()}"), await client.get("/jobs/7")

    assert (pending["status"], pending["result"], pending["is_terminal"]) == ("pending", None, False)
    assert (done["job_id"], done["status"], done["result"]) == (str(job.id), "succeeded", 3)
    assert (never["status"], never["result"], never["is_terminal"]) == ("cancelled", None, True)
    assert (unknown.status_code, malformed.status_code) == (404, 422)


@pytest.mark.contract("P6.1", "P6.15")
@pytest.mark.parametrize("example", ["status_endpoint"], indirect=True)
async def test_the_status_app_beside_it_takes_submissions(example: Any) -> None:
    transport = httpx.ASGITransport(app=example.app)
    token = {"authorization": "Bearer a-secret-for-tests"}

    async with httpx.AsyncClient(transport=transport, base_url="http://app", headers=token) as client:
        accepted = await client.post("/queue/jobs", json={"task": "add", "arguments": {"a": 1, "b": 2}})
        async with example.pgq.worker():
            result = await example.pgq.handle(UUID(accepted.json()["job_id"])).result(timeout=60)
        polled = await client.get(accepted.headers["location"])

    assert (accepted.status_code, result) == (202, 3)
    assert (polled.json()["status"], polled.json()["result"]) == ("succeeded", 3)


async def wait_of(pgq: Any, job: JobHandle[Any], attempt: int) -> float:
    """Wait until a job waits after *attempt*; return for how many seconds it does."""

    async def is_waiting() -> bool:
        read = await job.refresh()
        return (read.status, read.attempt) == (JobStatus.SCHEDULED, attempt)

    await eventually(is_waiting)
    attempts, next_run_at = await pgq.attempts(job.id), (await job.refresh()).next_run_at
    assert next_run_at is not None
    return float((next_run_at - attempts[-1].ended_at).total_seconds())


async def make_due(db: Connection, job: JobHandle[Any]) -> None:
    """Let the time that a job waits for have come."""
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute("update pgqueue.scheduled set scheduled_at = now() where job_id = $1", job.id)


async def is_true(value: object) -> bool:
    return bool(value)


@pytest.mark.contract("P7.2")
@pytest.mark.parametrize("example", ["workflows"], indirect=True)
async def test_the_workflows_come_to_what_their_tasks_make_of_each_others_results(example: Any) -> None:
    handles = await example.start()

    async with example.pgq.worker():
        loaded, _, told = [await handle.result(timeout=60) for handle in handles]

    assert loaded == "3 rows in warehouse"
    assert sorted(example.sent) == ["analytics signed_up", "mail user@example.com", "sms +431234"]
    assert told == "batch-1: 3 items, 14 in all"
