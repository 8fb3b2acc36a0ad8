"""`GET /jobs/{id}`, its result, and its cancellation."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio
import httpx
import pytest
from kit import inside
from kit.waiting import eventually
from kit.web_client import client_of
from starlette.requests import Request

from pgqueue import Job, JobHandle, JobNotFoundError, JobPurgedError, JobStatus, PgQueue
from pgqueue.database.pool import Database
from pgqueue.model.ids import new_id
from pgqueue.store import Store
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

TOKEN = {"authorization": "Bearer a-secret-for-tests"}


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(status_app(pgq, token="a-secret-for-tests"), headers=TOKEN) as client:
        yield client


async def run(pgq: PgQueue, *jobs: JobHandle[Any]) -> None:
    """Run a worker until *jobs* are over."""
    async with pgq.worker():
        with anyio.fail_after(60):
            for job in jobs:
                await pgq.wait(job.id)


# What a poll says


@pytest.mark.contract("P6.2", "P6.3", "P6.5")
async def test_every_job_is_a_200_whatever_has_become_of_it(
    pgq: PgQueue, client: httpx.AsyncClient, db: Connection
) -> None:
    @pgq.task(max_retries=4)
    async def work(*, fails: bool) -> dict[str, int]:
        if fails:
            raise ValueError("no such account")
        return {"sum": 3}

    done = await work.enqueue(fails=False)
    failed = await work.options(max_retries=0).enqueue(fails=True)
    await run(pgq, done, failed)
    pending, cancelled = await work.enqueue(fails=False), await work.enqueue(fails=False)
    scheduled = await work.options(delay=3600).enqueue(fails=False)
    expired = await work.options(delay=3600, expires=1800).enqueue(fails=False)
    await cancelled.cancel()
    await pass_expiry(db, expired)
    async with pgq.worker(queues=["none"]):
        with anyio.fail_after(60):
            await pgq.wait(expired.id)

    answers = {
        name: await client.get(f"/jobs/{job.id}")
        for name, job in {
            "succeeded": done,
            "failed": failed,
            "pending": pending,
            "scheduled": scheduled,
            "cancelled": cancelled,
            "expired": expired,
        }.items()
    }

    fields = {
        "job_id", "status", "created_at", "started_at", "completed_at", "result", "error", "is_terminal",
        "queue", "task", "attempt", "max_attempts", "losses", "progress", "next_run_at", "undecodable",
        "waits_for_limit", "result_size", "result_url",
    }  # fmt: skip
    for name, answer in answers.items():
        shown = answer.json()
        assert answer.status_code == 200
        assert shown["status"] == name
        assert shown.keys() == fields
        assert shown["is_terminal"] is (name in ("succeeded", "failed", "cancelled", "expired"))
        assert shown["result"] == ({"sum": 3} if name == "succeeded" else None)
        assert shown["error"] == (
            {"type": "ValueError", "message": "no such account"} if name == "failed" else None
        )
        assert shown["max_attempts"] == (1 if name == "failed" else 5)
        assert "Traceback" not in answer.text
        assert ("retry-after" in answer.headers) is not shown["is_terminal"]
    assert answers["scheduled"].json()["next_run_at"] is not None


async def pass_expiry(db: Connection, job: JobHandle[Any]) -> None:
    """Let a job's expiry have come."""
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute("update pgqueue.job set expires_at = now() where id = $1", job.id)
        await db.execute("update pgqueue.expiry set check_at = now() where job_id = $1", job.id)


async def test_a_task_without_a_limit_of_retries_has_no_number_of_attempts(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task(max_retries=None)
    async def work() -> None: ...

    job = await work.enqueue()

    assert (await client.get(f"/jobs/{job.id}")).json()["max_attempts"] is None


@pytest.mark.contract("P6.4")
async def test_unknown_malformed_and_purged_ids_are_told_apart(
    pgq: PgQueue, client: httpx.AsyncClient, db: Connection
) -> None:
    @pgq.task
    async def work() -> None: ...

    kept = UUID("01890a5d-ac96-774b-bcce-b302099a8057")  # July 2023
    purged = UUID("018a0a5d-ac96-774b-bcce-b302099a8057")  # August 2023
    await db.execute("update pgqueue.migration set applied_at = '2023-06-01'")
    job = await work.options(id=kept).enqueue()
    same_day = UUID(int=kept.int + 1)
    before_us, random = UUID("01790a5d-ac96-774b-bcce-b302099a8057"), uuid4()

    answers = {
        each: await client.get(f"/jobs/{each}")
        for each in (kept, purged, same_day, before_us, random, new_id(), "7", "latest", f"{random}x")
    }

    assert [each.status_code for each in answers.values()] == [200, 410, 404, 404, 404, 404, 422, 422, 422]
    assert answers[kept].json()["job_id"] == str(job.id)
    assert answers[purged].json() == {
        "type": "about:blank",
        "title": "Gone",
        "status": 410,
        "detail": f"job {purged} no longer exists: all jobs from its day have been removed",
    }
    for answer in answers.values():
        assert answer.status_code == 200 or answer.headers["content-type"] == "application/problem+json"


@pytest.mark.contract("P6.4", "P6.15")
async def test_a_program_is_told_the_same(pgq: PgQueue, db: Connection) -> None:
    purged = UUID("018a0a5d-ac96-774b-bcce-b302099a8057")
    await db.execute("update pgqueue.migration set applied_at = '2023-06-01'")

    with pytest.raises(JobPurgedError, match="no longer exists"):
        await pgq.get(purged)
    with pytest.raises(JobPurgedError):
        await pgq.cancel(purged)
    with pytest.raises(JobNotFoundError) as unknown:
        await pgq.get(new_id())

    assert not isinstance(unknown.value, JobPurgedError)


# The async protocol


@pytest.mark.contract("P6.5", "P6.6")
async def test_the_async_protocol_says_202_until_there_is_a_result_to_go_to(pgq: PgQueue) -> None:
    @pgq.task(max_retries=0)
    async def work(*, fails: bool) -> int:
        if fails:
            raise ValueError("no")
        return 3

    done, failed = await work.enqueue(fails=False), await work.enqueue(fails=True)
    async with client_of(
        status_app(pgq, token="a-secret-for-tests", async_protocol=True), headers=TOKEN
    ) as client:
        waiting = await client.get(f"/jobs/{done.id}")
        no_result_yet = await client.get(f"/jobs/{done.id}/result")
        await run(pgq, done, failed)
        over = await client.get(f"/jobs/{done.id}")
        followed = await client.get(f"/jobs/{done.id}", follow_redirects=True)
        in_vain = await client.get(f"/jobs/{failed.id}")

    for answer in (waiting, no_result_yet):
        assert (answer.status_code, answer.headers["location"]) == (202, f"/jobs/{done.id}")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["status"] == "pending"
    assert (over.status_code, over.headers["location"]) == (303, f"/jobs/{done.id}/result")
    assert (followed.status_code, followed.json()) == (200, 3)
    assert (in_vain.status_code, in_vain.json()["error"]["message"]) == (200, "no")


@pytest.mark.contract("P6.3")
async def test_a_result_is_there_once_the_job_has_succeeded(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    @pgq.task(max_retries=0)
    async def work(what: str) -> object:
        if what == "fail":
            raise ValueError("no")
        return None if what == "none" else [what]

    text, none, failed = [await work.enqueue(each) for each in ("\u2028</script>", "none", "fail")]
    ignored = await work.options(ignore_result=True).enqueue("ignored")
    early = await client.get(f"/jobs/{text.id}/result")
    await run(pgq, text, none, failed, ignored)

    answers = [await client.get(f"/jobs/{job.id}/result") for job in (text, none, ignored, failed)]

    assert [each.status_code for each in (early, *answers)] == [409, 200, 200, 204, 409]
    assert (answers[0].json(), answers[1].json()) == (["\u2028</script>"], None)
    assert (early.json()["job_status"], early.json()["error"]) == ("pending", None)
    assert int(early.headers["retry-after"]) >= 1
    assert answers[3].json()["job_status"] == "failed"
    assert answers[3].json()["error"] == {"type": "ValueError", "message": "no"}
    assert "retry-after" not in answers[3].headers


# Asking again


@pytest.mark.contract("P6.7")
async def test_a_client_that_knows_the_state_is_told_that_it_is_so(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task
    async def work() -> int:
        return 3

    job = await work.enqueue()
    first = await client.get(f"/jobs/{job.id}")
    known = {"if-none-match": f'"other", W/{first.headers["etag"]}'}

    unchanged = await client.get(f"/jobs/{job.id}", headers=known)
    head = await client.head(f"/jobs/{job.id}")
    await run(pgq, job)
    changed = await client.get(f"/jobs/{job.id}", headers=known)
    whatever = await client.get(f"/jobs/{job.id}", headers={"if-none-match": "*"})
    result = await client.get(f"/jobs/{job.id}/result")
    same_result = await client.get(
        f"/jobs/{job.id}/result", headers={"if-none-match": result.headers["etag"]}
    )

    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == first.headers["etag"] == head.headers["etag"]
    assert (head.status_code, changed.status_code, whatever.status_code) == (200, 200, 304)
    assert changed.headers["etag"] != first.headers["etag"]
    assert (result.status_code, same_result.status_code) == (200, 304)
    for answer in (first, unchanged, head, changed, whatever, result):
        assert answer.headers["cache-control"] == "no-store"
        assert "authorization" in answer.headers["vary"].lower()


@pytest.mark.contract("P6.6")
async def test_when_to_ask_again_follows_the_backoff_and_what_is_measured_of_the_queue(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task
    async def work() -> None: ...

    retried = await work.options(delay=90).enqueue()
    waiting = await work.enqueue()
    await pgq.pause(queue="default")

    before = [await client.get(f"/jobs/{job.id}") for job in (retried, waiting)]
    after = await client.get(f"/jobs/{waiting.id}")

    assert 80 <= int(before[0].headers["retry-after"]) <= 90
    assert all(int(each.headers["retry-after"]) >= 1 for each in before)
    # The first poll had it measured: nothing starts in a paused queue.
    assert after.headers["retry-after"] == "300"


# What a poll costs


@pytest.mark.contract("P6.12")
async def test_a_poll_is_one_statement_on_one_connection(dsn: str, pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    statements: list[str] = []
    job = await work.enqueue()
    # Another process, in effect: it does nothing but answer polls.
    async with PgQueue(dsn, max_connections=1) as viewer:
        app = status_app(viewer, token="a-secret-for-tests")
        async with client_of(app, headers=TOKEN) as client:
            # Has the queues measured, for Retry-After, which the next polls read from memory.
            await client.get(f"/jobs/{job.id}")
            async with inside.database(viewer).acquire() as connection:
                raw = inside.lent_connection(connection)  # what the pool lends again and again
            raw.add_query_logger(lambda query: statements.append(query.query))

            answers = [await client.get(f"/jobs/{job.id}") for _ in range(3)]

    assert [each.status_code for each in answers] == [200] * 3
    assert len(statements) == 3
    assert {each.split(":")[0] for each in statements} == {"-- read_jobs"}


@pytest.mark.contract("P6.12")
async def test_a_poll_reads_by_keys_alone_however_many_jobs_there_are(
    dsn: str, pgq: PgQueue, db: Connection
) -> None:
    @pgq.task(default_retry_delay=3600)
    async def work(number: int) -> None:
        raise ValueError("not yet")

    job = await work.enqueue(0)
    async with pgq.worker():
        await eventually(lambda: is_scheduled(job))
    await pgq.enqueue_many(work.s(number) for number in range(5000))
    await db.execute("analyze")
    database = Database(
        dsn,
        schema="pgqueue",
        max_connections=1,
        connect_timeout=5,
        force_generic_plans=True,
        connect_options={},
    )
    connection = await database.connect(durable=False)
    try:
        sql = inside.statement(Store("pgqueue"), "read_jobs")
        await connection.fetch(sql, [job.id], None)
        [row] = await connection.fetch(f"explain (analyze, buffers, format json) {sql}", [job.id], None)
    finally:
        await connection.close()

    [explained] = json.loads(row[0])
    nodes = list(nodes_of(explained["Plan"]))
    read = {node["Relation Name"] for node in nodes if "Relation Name" in node and node["Actual Loops"]}
    assert {"ready", "running", "scheduled", "blocked", "lane", "attempt"} <= read
    assert [node for node in nodes if node["Node Type"] == "Seq Scan"] == []
    indexes = {node["Index Name"] for node in nodes if "Index Name" in node}
    assert {each for each in indexes if not each.endswith("_pkey")} == set()
    # What there is of one job is found, and nothing is searched for it.
    assert max(node["Actual Rows"] for node in nodes) <= 1
    plan = explained["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 60


async def is_scheduled(job: JobHandle[Any]) -> bool:
    return await job.status() is JobStatus.SCHEDULED


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of *plan*."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes_of(below)


# Cancelling


@pytest.mark.contract("P6.10")
async def test_a_job_that_waits_is_cancelled_at_once_and_once(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task
    async def work() -> None: ...

    job, deleted = await work.enqueue(), await work.enqueue()

    done = await client.post(f"/jobs/{job.id}/cancel", json={"reason": "not needed"})
    again = await client.post(f"/jobs/{job.id}/cancel")
    gone = await client.delete(f"/jobs/{deleted.id}")

    assert (done.status_code, done.json()["status"], done.json()["is_terminal"]) == (200, "cancelled", True)
    assert (again.status_code, again.json()["job_status"]) == (409, "cancelled")
    assert again.headers["content-type"] == "application/problem+json"
    assert (gone.status_code, gone.json()["status"]) == (200, "cancelled")
    [action] = await pgq.actions(job.id)
    assert (action.action, action.reason, action.actor) == ("cancelled", "not needed", "http")


@pytest.mark.contract("P6.10")
async def test_a_job_that_runs_is_asked_to_stop(pgq: PgQueue, client: httpx.AsyncClient) -> None:
    started, go_on = anyio.Event(), anyio.Event()

    @pgq.task
    async def work() -> int:
        started.set()
        with anyio.CancelScope(shield=True):
            await go_on.wait()
        return 3

    job = await work.enqueue()
    async with pgq.worker():
        with anyio.fail_after(60):
            await started.wait()
            await eventually(lambda: is_running(job))
            requested = await client.post(f"/jobs/{job.id}/cancel")
            go_on.set()
            over = await pgq.wait(job.id)
    late = await client.delete(f"/jobs/{job.id}")

    assert (requested.status_code, requested.json()["status"]) == (202, "running")
    assert requested.headers["location"] == f"/jobs/{job.id}"
    assert int(requested.headers["retry-after"]) >= 1
    assert late.status_code == 409
    assert over.is_terminal


async def is_running(job: JobHandle[Any]) -> bool:
    return await job.status() is JobStatus.RUNNING


@pytest.mark.contract("P6.10")
async def test_cancelling_an_ended_job_is_a_conflict_and_changes_nothing(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()

    unknown = await client.post(f"/jobs/{new_id()}/cancel")
    malformed = await client.delete("/jobs/7")
    no_text = await client.post(f"/jobs/{job.id}/cancel", json={"reason": 7})
    unforeseen = await client.post(f"/jobs/{job.id}/cancel", json={"raeson": "x"})
    async with client_of(status_app(pgq, local_reading=True), headers=TOKEN) as stranger:
        refused = await stranger.delete(f"/jobs/{job.id}")

    answers = (unknown, malformed, no_text, unforeseen, refused)
    assert [each.status_code for each in answers] == [404, 422, 422, 422, 403]
    assert await job.status() is JobStatus.PENDING


# Owners


@pytest.mark.contract("P6.11")
async def test_another_owners_job_is_like_one_that_does_not_exist(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    async def owns(request: Request, job: Job) -> bool:
        return job.headers.get("user") == request.headers.get("user")

    job = await work.options(headers={"user": "ann"}).enqueue()
    unknown = new_id()
    app = status_app(pgq, authorize=lambda *_: True, owns=owns, actor=lambda request: request.headers["user"])
    ways = [("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("DELETE", ""), ("GET", "/events")]
    async with client_of(app, headers=TOKEN) as client:
        for method, path in ways:
            theirs, nobodys = [
                await client.request(method, f"/jobs/{each}{path}", headers={"user": "bob"})
                for each in (job.id, unknown)
            ]

            assert theirs.status_code == nobodys.status_code == 404
            assert theirs.text == nobodys.text.replace(str(unknown), str(job.id))
            assert dict(theirs.headers) == dict(nobodys.headers)
        mine = await client.get(f"/jobs/{job.id}", headers={"user": "ann"})

    assert (mine.status_code, mine.json()["status"]) == (200, "pending")


@pytest.mark.contract("P6.11")
async def test_a_hook_that_fails_tells_nothing_of_the_job(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    job = await work.enqueue()
    app = status_app(
        pgq,
        token="a-secret-for-tests",
        owns=lambda _, job: job.headers["user"] == "ann",
        actor=lambda _: "ann",
    )

    async with client_of(app, headers=TOKEN) as client:
        response = await client.get(f"/jobs/{job.id}")

    assert (response.status_code, response.json()["detail"]) == (404, f"there is no job {job.id}")


@pytest.mark.contract("P6.11")
async def test_ids_are_not_to_be_guessed(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    ids = [(await work.enqueue()).id for _ in range(50)]

    # All but the time and the version: 74 bits that say nothing about each other.
    assert len({each.int & (1 << 62) - 1 for each in ids}) == 50
    ones = [(each.int & (1 << 62) - 1).bit_count() for each in ids]
    assert 20 < sum(ones) / len(ones) < 42
