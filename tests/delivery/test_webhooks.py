"""The end of a job makes the jobs that tell of it, in the same transaction, however the job ends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import anyio
import pytest
from kit.endpoint import answer, endpoint, hang
from kit.faults import Ghost, ghost
from kit.roles import roles_of

from pgqueue import (
    InvalidOptionError,
    JobContext,
    JobStatus,
    PgQueue,
    Reject,
    chain,
    group,
)
from pgqueue.database.sql import ROOT
from pgqueue.errors import ConfigurationError
from pgqueue.model.job_error import JobError
from pgqueue.model.outcomes import Ended, PutAside, Retried
from pgqueue.store.values import Settled
from pgqueue.webhooks import Webhook, verify

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P6.14")

SECRET = "a secret of sixteen bytes or more"
URL = "http://127.0.0.1:1/hook"
CERTIFICATE = Path(__file__).parents[1] / "kit/db_pgqueue_test.pem"
"""Signed by itself, with its key."""
ERROR = JobError("ValueError", "no such account")


async def told(pgq: PgQueue, job_id: UUID) -> list[Any]:
    """Return what the webhooks of a job say, in the order in which they were made."""
    jobs = (await pgq.jobs(key=str(job_id))).jobs
    return [job.arguments["body"] for job in reversed(jobs)]


async def test_a_receiver_is_told_once_signed_and_again_until_it_listens(pgq: PgQueue) -> None:
    async with endpoint(answer(500), answer(503), answer(204)) as receiver:
        hook = pgq.webhook("shop", url=receiver.url, secret=SECRET, retry_intervals=[0])

        @pgq.task(webhooks=[hook], max_retries=0)
        async def ship(order: int) -> None:
            if order == 8:
                raise ValueError("no such order")

        job = await ship.options(tags=["a"], key="order-7").enqueue(8)
        async with pgq.worker(poll_interval=0.05):
            with anyio.fail_after(60):
                await pgq.wait(job.id)
                [sender] = (await pgq.jobs(key=str(job.id))).jobs
                sent = await pgq.wait(sender.id)
        requests = receiver.received

    assert (sent.status, sent.task, sent.result) == (
        "succeeded",
        "webhook:shop",
        {"status": 204, "body": None},
    )
    assert {each.headers["webhook-id"] for each in requests} == {str(sender.id)}
    bodies = [verify(each.body, each.headers, SECRET) for each in requests]
    assert bodies == bodies[:1] * 3
    ended = await job.refresh()
    assert ended.completed_at is not None
    at = ended.completed_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert (bodies[0]["type"], bodies[0]["timestamp"]) == ("job.failed", at)
    assert bodies[0]["data"] == {
        "job_id": str(job.id),
        "task": "ship",
        "queue": "default",
        "status": "failed",
        "reason": "exception",
        "error_type": "ValueError",
        "attempt": 1,
        "tags": ["a"],
        "key": "order-7",
        "workflow_id": None,
        "created_at": ended.created_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "ended_at": at,
    }


# However it ends

End = Callable[[Ghost, "Connection", UUID], Awaitable[object]]
ENDS: dict[str, tuple[JobStatus, End]] = {}


def end(status: JobStatus) -> Callable[[End], End]:
    def add(act: End) -> End:
        ENDS[act.__name__.replace("_", " ")] = status, act
        return act

    return add


@end(JobStatus.SUCCEEDED)
async def finished(holder: Ghost, _: Connection, job_id: UUID) -> None:
    await holder.claim()
    await holder.store.finish(holder.connection, holder.lease_id, holder.name, [job_id], ["1"])


@end(JobStatus.SUCCEEDED)
async def finished_with_others(holder: Ghost, _: Connection, job_id: UUID) -> None:
    await holder.claim()
    await holder.store.finish(holder.connection, holder.lease_id, holder.name, [job_id], None, Settled())


@end(JobStatus.FAILED)
async def failed(holder: Ghost, _: Connection, job_id: UUID) -> None:
    await holder.claim()
    ended = Ended(job_id, JobStatus.FAILED, "exception", ERROR)
    await holder.store.fail(holder.connection, holder.lease_id, holder.name, [ended])


@end(JobStatus.FAILED)
async def broken(holder: Ghost, _: Connection, job_id: UUID) -> None:
    await holder.store.fail_broken(holder.connection, job_id, "broken_row", ERROR, holder.name, None)


@end(JobStatus.FAILED)
async def unknown(holder: Ghost, _: Connection, job_id: UUID) -> None:
    await holder.claim()
    await holder.store.make_lanes(holder.connection, [("default", 0, "work")])
    aside = PutAside(job_id, "work", "default", 0)
    await holder.store.put_aside(holder.connection, holder.lease_id, [aside])
    await holder.connection.execute("update pgqueue.ready set ready_at = now() - interval '1 hour'")
    await holder.connection.execute("update pgqueue.lease set tasks = '{}'")
    await holder.store.fail_unknown(holder.connection, 60, [], 100)


@end(JobStatus.FAILED)
async def lost_too_often(holder: Ghost, _: Connection, job_id: UUID) -> None:
    await holder.claim()
    await holder.die()
    async with holder.connection.transaction():
        await holder.store.lock_expired_lease(holder.connection, holder.lease_id)
        await holder.store.rescue(holder.connection, holder.lease_id, 100, 0)
    await holder.connection.execute("update pgqueue.lease set expires_at = now() + interval '1 hour'")


@end(JobStatus.FAILED)
async def failed_by_hand(_: Ghost, db: Connection, job_id: UUID) -> None:
    await db.execute("select pgqueue.transition($1, 'failed')", job_id)


@end(JobStatus.CANCELLED)
async def cancelled(_: Ghost, db: Connection, job_id: UUID) -> None:
    await db.execute("select pgqueue.cancel($1)", job_id)


@end(JobStatus.CANCELLED)
async def cancelled_while_it_ran(holder: Ghost, db: Connection, job_id: UUID) -> None:
    await holder.claim()
    await db.execute("select pgqueue.cancel($1)", job_id)
    retried = Retried(job_id, 60, "exception", ERROR)
    await holder.store.retry(holder.connection, holder.lease_id, holder.name, [retried])


@end(JobStatus.CANCELLED)
async def cancelled_at_the_release(holder: Ghost, db: Connection, job_id: UUID) -> None:
    await holder.claim()
    await db.execute("select pgqueue.cancel($1)", job_id)
    await holder.store.release(holder.connection, holder.lease_id, holder.name, [job_id])


@end(JobStatus.CANCELLED)
async def cancelled_late(holder: Ghost, _: Connection, job_id: UUID) -> None:
    request = "insert into pgqueue.cancel_request (job_id, lease_id) values ($1, gen_random_uuid())"
    await holder.connection.execute(request, job_id)
    await holder.store.carry_out_cancels(holder.connection, 100)


@end(JobStatus.EXPIRED)
async def expired(holder: Ghost, _: Connection, job_id: UUID) -> None:
    await holder.connection.execute("update pgqueue.job set expires_at = now() where id = $1", job_id)
    await holder.connection.execute(
        "insert into pgqueue.expiry (job_id, check_at) values ($1, now())", job_id
    )
    await holder.store.expire(holder.connection, 100)


async def test_whatever_ends_a_job_tells_of_it_once(pgq: PgQueue, db: Connection) -> None:
    hook = pgq.webhook("shop", url=URL, secret=SECRET, queue="hooks")

    @pgq.task(webhooks=[hook])
    async def work() -> None: ...

    async with ghost(pgq) as holder:
        for name, (status, act) in ENDS.items():
            job = await work.enqueue()
            await act(holder, db, job.id)

            assert await job.status() == status, name
            bodies = await told(pgq, job.id)
            assert [(each["type"], each["data"]["status"]) for each in bodies] == [
                (f"job.{status}", status)
            ], name

    # Nothing tells of those that tell.
    assert await db.fetchval("select count(*) from pgqueue.job where task like 'webhook:%'") == len(ENDS)
    assert (
        await db.fetchval("select count(*) from pgqueue.job where task like 'webhook:%' and hooks > 0") == 0
    )


def statements() -> dict[str, str]:
    paths = [path for path in Path(str(ROOT)).glob("*/*.sql") if path.parent.name != "migrations"]
    return {path.stem: path.read_text(encoding="utf-8") for path in paths}


async def test_every_statement_that_ends_jobs_settles_them(db: Connection) -> None:
    functions = await db.fetch(
        "select proname::text as name, prosrc as text from pg_proc "
        "where pronamespace = 'pgqueue'::regnamespace"
    )
    texts = {row["name"]: row["text"] for row in functions} | statements()
    ends = {
        name
        for name, text in texts.items()
        if "update pgqueue.job" in text and "completed_at = " in text and "completed_at = null" not in text
    }

    assert ends >= {"finish", "fail", "expire", "cancel", "transition", "spoil"}
    assert {name for name in ends if "settle" not in texts[name] and "tell_ends" not in texts[name]} == set()


async def test_a_job_that_is_cancelled_for_those_before_it_tells_too(pgq: PgQueue) -> None:
    hook = pgq.webhook("shop", url=URL, secret=SECRET)

    @pgq.task(max_retries=0)
    async def first() -> None:
        raise Reject("no")

    @pgq.task(webhooks=[hook])
    async def second() -> None: ...

    flow = await chain(first.s(), second.si()).enqueue()
    async with pgq.worker(queues=["default"]):
        with anyio.fail_after(60):
            ended = await pgq.wait(flow.id)

    assert ended.reason == "upstream_failed"
    assert [each["type"] for each in await told(pgq, flow.id)] == ["job.cancelled"]


async def test_a_redriven_job_tells_of_each_end(pgq: PgQueue, db: Connection) -> None:
    hook = pgq.webhook("shop", url=URL, secret=SECRET)

    @pgq.task(webhooks=[hook])
    async def work() -> None: ...

    job = await work.enqueue()
    await db.execute("select pgqueue.transition($1, 'failed')", job.id)
    await pgq.redrive(job.id)
    await job.cancel()
    await pgq.requeue(job.id)
    await db.execute("select pgqueue.transition($1, 'failed')", job.id)
    await pgq.discard(job.id)

    types = [each["type"] for each in await told(pgq, job.id)]
    assert types == ["job.failed", "job.cancelled", "job.failed"]


async def test_they_are_made_in_the_transaction_that_ends_the_job(pgq: PgQueue, db: Connection) -> None:
    hook = pgq.webhook("shop", url=URL, secret=SECRET)

    @pgq.task(webhooks=[hook])
    async def work(ctx: JobContext) -> None:
        async with ctx.transaction() as connection:
            await connection.execute("select 1")

    job = await work.enqueue()
    rollback = db.transaction()
    await rollback.start()
    await db.execute("select pgqueue.cancel($1)", job.id)
    within = await db.fetchval("select count(*) from pgqueue.job where key = $1", str(job.id))
    await rollback.rollback()
    after = await told(pgq, job.id)
    async with pgq.worker(queues=["default"]):
        await job.result(timeout=60)

    assert (within, after) == (1, [])
    assert [each["type"] for each in await told(pgq, job.id)] == ["job.succeeded"]


@pytest.mark.parametrize(
    "stored",
    [
        '{"webhooks": 7}',
        '{"webhooks": {"task": "webhook:shop"}}',
        '{"webhooks": [7, null, "x", [], {}]}',
        '{"webhooks": [{"task": "", "queue": "default", "priority": 0, "on": ["failed"]}]}',
        '{"webhooks": [{"task": "a", "queue": "default", "priority": "99999", "on": ["failed"]}]}',
        '{"webhooks": [{"task": "a", "queue": "default", "priority": 0, "on": "failed"}]}',
        '{"webhooks": [{"task": "a\\u0000", "queue": "default", "priority": 0, "on": ["failed"]}]}',
        '{"webhooks": [{"task": "a", "queue": "default", "priority": 1e3, "on": [["failed"]]}]}',
        '["webhooks"]',
        '"webhooks"',
    ],
)
async def test_options_that_were_written_by_hand_stop_no_end_and_no_other_webhook(
    pgq: PgQueue, db: Connection, stored: str
) -> None:
    hook = pgq.webhook("shop", url=URL, secret=SECRET)

    @pgq.task(webhooks=[hook])
    async def work() -> None: ...

    good, bad = await work.enqueue(), await work.enqueue()
    async with ghost(pgq) as holder:
        await holder.connection.execute(
            "update pgqueue.job set options = $2::json where id = $1", bad.id, stored
        )
        await holder.claim()
        ends = [Ended(each.id, JobStatus.FAILED, "exception", ERROR) for each in (bad, good)]
        await holder.store.fail(holder.connection, holder.lease_id, holder.name, ends)

    assert (await good.status(), await bad.status()) == (JobStatus.FAILED, JobStatus.FAILED)
    assert (len(await told(pgq, good.id)), await told(pgq, bad.id)) == (1, [])


# Where it is declared


async def test_the_nearest_level_says_whom_to_tell(pgq: PgQueue) -> None:
    one, other, _ = (
        pgq.webhook("one", url=URL, secret=SECRET),
        pgq.webhook("other", allow=["https://*.example.com"], url=URL, secret=SECRET, priority=5),
        pgq.webhook("wide", url=URL, secret=SECRET, everywhere=True),
    )
    pgq.queue("narrow", webhooks=[other.on("cancelled")])

    @pgq.task
    async def plain() -> None: ...

    @pgq.task(webhooks=[one])
    async def tells() -> None: ...

    customer = "https://ann.example.com/hook"
    calls = {
        "everywhere": (plain.s(), ["webhook:wide"]),
        "queue": (plain.s().set(queue="narrow"), ["webhook:other"]),
        "task": (tells.s().set(queue="narrow"), ["webhook:one"]),
        "call": (tells.s().set(webhooks=[one, other.to(customer)]), ["webhook:one", "webhook:other"]),
        "other end": (tells.s().set(webhooks=[one.on("failed", "expired")]), []),
        "nobody": (tells.s().set(webhooks=[]), []),
    }
    for name, (call, tasks) in calls.items():
        job = await pgq.enqueue(cast("Any", call))
        await job.cancel()
        senders = (await pgq.jobs(key=str(job.id))).jobs
        assert sorted(each.task for each in senders) == tasks, name
        if name == "call":
            [to] = [each for each in senders if each.task == "webhook:other"]
            assert (to.arguments["url"], to.priority) == (customer, 5)


async def test_webhooks_go_through_every_door(pgq: PgQueue, db: Connection) -> None:
    hook = pgq.webhook("shop", url=URL, secret=SECRET)
    limit = pgq.limit("one", slots=1000)

    @pgq.task(webhooks=[hook])
    async def work(number: int = 0) -> None: ...

    @pgq.task(webhooks=[hook], limits=[limit])
    async def limited(number: int = 0) -> None: ...

    ids = [handle.id for handle in await pgq.enqueue_many(work.s(number) for number in range(5))]
    ids += [handle.id for handle in await pgq.enqueue_many([work.s(), limited.s(), work.s().set(delay=60)])]
    ids += [(await work.options(delay=60).enqueue()).id, (await limited.enqueue()).id]
    ids.append((await work.options(depends_on=[ids[0]]).enqueue()).id)
    flow = await group(work.s(1), work.s(2)).enqueue()
    members = await db.fetch("select id from pgqueue.job where workflow_id = $1", flow.workflow_id)
    ids += [row["id"] for row in members]
    async with db.transaction():
        ids.append((await work.options(connection=db).enqueue()).id)
    for on_conflict in ("return", "replace"):
        keyed = await work.options(idempotency_key="k", on_conflict=cast("Any", on_conflict)).enqueue()
        ids.append(keyed.id)
    plain = await work.options(webhooks=[], idempotency_key="late", delay=60).enqueue()
    ids.append((await work.options(idempotency_key="late", on_conflict="replace").enqueue()).id)
    assert ids[-1] == plain.id
    await pgq.schedules.create("tick", work.s(), every=3600)
    tick = await pgq.schedules.run_now("tick")
    assert tick is not None
    ids.append(tick)

    for job_id in dict.fromkeys(ids):
        await pgq.cancel(job_id)
        assert [each["type"] for each in await told(pgq, job_id)] == ["job.cancelled"], job_id


async def test_a_role_that_may_only_enqueue_can_have_its_jobs_told(
    pgq: PgQueue, db: Connection, superuser_dsn: str
) -> None:
    async with roles_of(superuser_dsn) as roles, PgQueue(roles.dsn_of("enqueue")) as own:
        hook = own.webhook("shop", url=URL, secret=SECRET)

        @own.task(webhooks=[hook])
        async def work(number: int) -> None: ...

        one = await work.enqueue(1)
        two = await own.enqueue_many([work.s(1), work.s(2)])
        keyed = await work.options(idempotency_key="k").enqueue(1)

    for job in (one, *two, keyed):
        await pgq.cancel(job.id)
        assert len(await told(pgq, job.id)) == 1


async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    )
    await writer.drain()


async def much(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10000000000\r\n\r\n")
    while True:
        writer.write(b"1" * 100_000)
        await writer.drain()


async def broken_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 2")
    await writer.drain()
    writer.transport.abort()


async def late(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # It has said that it has it.
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{")
    await writer.drain()
    writer.transport.abort()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (redirect, "HttpAnswerError"),
        (hang, "HttpTimeoutError"),
        (broken_off, "HttpUnreachableError"),
        ("untrusted", "HttpUnreachableError"),
        (much, None),
        (late, None),
    ],
)
async def test_no_receiver_reaches_the_job_that_it_is_told_of(
    pgq: PgQueue, given: Any, error: str | None
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(CERTIFICATE)
    is_untrusted = given == "untrusted"
    async with endpoint(
        answer(204) if is_untrusted else given, tls=tls if is_untrusted else None
    ) as receiver:
        url = receiver.url.replace("http:", "https:") if is_untrusted else receiver.url
        timeout = 0.5 if given is hang else 60
        hook = pgq.webhook("shop", url=url, secret=SECRET, timeout=timeout, max_retries=0)

        @pgq.task(webhooks=[hook])
        async def ship(order: int) -> int:
            return order

        job = await ship.enqueue(8)
        async with pgq.worker(poll_interval=0.05):
            assert await job.result(timeout=60) == 8
            [sender] = (await pgq.jobs(key=str(job.id))).jobs
            with anyio.fail_after(120):
                sent = await pgq.wait(sender.id)

    assert sent.status == (JobStatus.SUCCEEDED if error is None else JobStatus.FAILED)
    assert (sent.error and sent.error.type) == error
    # Who is not trusted is told nothing.
    assert len(receiver.received) == (0 if is_untrusted else 1)


async def test_what_sql_enqueues_has_no_webhooks(pgq: PgQueue, db: Connection) -> None:
    hook = pgq.webhook("shop", url=URL, secret=SECRET, everywhere=True)

    @pgq.task(webhooks=[hook])
    async def ship(order: int) -> None: ...

    job_id = await db.fetchval("select pgqueue.enqueue('ship', '{\"order\": 8}')")
    async with pgq.worker():
        await pgq.handle(job_id).result(timeout=60)

    assert await told(pgq, job_id) == []


# What is declared wrongly


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": "short"},
        {"secret": SECRET, "url": None},
        {"secret": SECRET, "url": "ftp://host/"},
        {"secret": SECRET, "statuses": "failed"},
        {"secret": SECRET, "statuses": []},
        {"secret": SECRET, "statuses": ["running"]},
        {"secret": SECRET, "body": dict},
        {"secret": SECRET, "nonsense": 1},
        {"secret": SECRET, "name": ""},
    ],
    ids=str,
)
def test_a_wrong_webhook_is_refused(wrong: dict[str, Any]) -> None:
    pgq = PgQueue()

    with pytest.raises((ConfigurationError, TypeError)):
        pgq.webhook(wrong.pop("name", "shop"), **({"url": URL} | wrong))

    assert not list(pgq.registry.names)


def test_what_is_no_webhook_is_refused() -> None:
    pgq = PgQueue()
    hook = pgq.webhook("shop", url=URL, secret=SECRET, allow=["https://*.example.com"])

    many = [hook.to(f"https://a.example.com/{number}") for number in range(17)]
    for wrong in ("shop", 7, ["shop"], [None], many):
        with pytest.raises(InvalidOptionError, match="webhooks"):
            pgq.task(webhooks=cast("Any", wrong))(test_what_is_no_webhook_is_refused)
    for url in ("https://evil.com/", "http://a.example.com/", ""):
        with pytest.raises(InvalidOptionError):
            hook.to(url)
    with pytest.raises(InvalidOptionError):
        hook.on("running")
    assert isinstance(hook, Webhook)
    assert SECRET not in repr(hook)
