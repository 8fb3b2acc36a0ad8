"""A task whose handler is an HTTP endpoint: what is sent, and what each answer leads to."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from kit.endpoint import Answer, answer, endpoint, hang
from kit.processes import DEADLINE, processes_in
from kit.waiting import eventually
from pydantic import BaseModel, Field, SecretStr

from pgqueue import (
    InvalidArgumentsError,
    InvalidOptionError,
    Job,
    JobFailed,
    JobHandle,
    JobStatus,
    PgQueue,
    Rate,
)
from pgqueue.delivery import answers
from pgqueue.delivery.addresses import check_allowed, is_public, read_allowed
from pgqueue.delivery.clients import make_client
from pgqueue.errors import ConfigurationError, HttpAnswerError, WorkerLifespanError
from pgqueue.retry.delays import read_delay
from pgqueue.testing import inline
from pgqueue.webhooks import BearerToken, verify

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("P8.6")

SECRET = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OK = answer(200, {"ok": True})
NOW: dict[str, Any] = {"max_retries": 2, "retry_backoff": 0.001}


async def run(pgq: PgQueue, *args: Any, **options: Any) -> Job:
    """Run one job of the task "call" to its end."""
    job = await begin(pgq, *args, **options)
    async with pgq.worker(poll_interval=0.05):
        with anyio.fail_after(60):
            return await pgq.wait(job.id)


async def begin(pgq: PgQueue, *args: Any, **options: Any) -> JobHandle[Any]:
    return await pgq.enqueue(pgq.signature("call", *args, options=options or None))  # type: ignore[arg-type]


async def test_the_body_goes_out_with_the_jobs_headers_and_2xx_ends_it(pgq: PgQueue) -> None:
    class Charge(BaseModel):
        order_id: int = Field(serialization_alias="orderId")

    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    async with endpoint(answer(201, {"receipt": 9})) as target:
        pgq.http_task(
            "call", url=f"{target.url}/charge?k=v", body=Charge, headers={"X-Shop": "one", "accept": "*/*"}
        )
        job = await run(
            pgq, Charge(order_id=7), headers={"traceparent": parent, "baggage": "user=ann", "other": "x"}
        )
        [sent] = target.received

    assert (job.status, job.result) == ("succeeded", {"status": 201, "body": {"receipt": 9}})
    assert (sent.method, sent.path, sent.json) == ("POST", "/charge?k=v", {"orderId": 7})
    wanted = {
        "pgqueue-job-id": str(job.id),
        "idempotency-key": str(job.id),
        "pgqueue-attempt": "1",
        "pgqueue-task": "call",
        "pgqueue-queue": "default",
        "content-type": "application/json",
        "traceparent": parent,
        "x-shop": "one",
        "accept": "*/*",
    }
    assert sent.headers.items() >= wanted.items()
    assert sent.headers.keys().isdisjoint({"baggage", "other", "webhook-id", "authorization"})


async def test_a_result_is_small_json_or_the_status(pgq: PgQueue) -> None:
    given = [
        answer(204),
        answer(200, b"<p>", content_type="text/html"),
        answer(200, b"{broken"),
        answer(200, b"\x1f\x8b", content_encoding="gzip"),
        answer(200, [1], content_type="application/problem+json; charset=utf-8"),
    ]
    async with endpoint(*given) as target:
        call = pgq.http_task("call", url=target.url, method="PUT")
        async with pgq.worker(concurrency=1):
            results = [await (await call.enqueue()).result(timeout=60) for _ in given]

    assert results == [
        {"status": 204, "body": None},
        *[{"status": 200, "body": None}] * 3,
        {"status": 200, "body": [1]},
    ]
    assert (target.received[0].method, target.received[0].body) == ("PUT", b"")


async def test_what_may_pass_is_retried(pgq: PgQueue) -> None:
    statuses = [500, 501, 502, 503, 504, 408, 425]
    async with endpoint(*[answer(each, b"busy\r\n now\x1b") for each in statuses], OK) as target:
        pgq.http_task("call", url=target.url, max_retries=7, retry_intervals=[0])
        job = await run(pgq, 1)

    assert job.status == JobStatus.SUCCEEDED
    assert [each.headers["pgqueue-attempt"] for each in target.received] == list("12345678")
    assert len({each.headers["idempotency-key"] for each in target.received}) == 1
    told = [each.error and each.error.message for each in await pgq.attempts(job.id)]
    assert told == [f"{target.url}: answered {each}: busy now" for each in statuses]


async def test_other_answers_fail_the_job_at_once(pgq: PgQueue) -> None:
    expected = [
        (answer(400, {"error": "no such order"}), 'answered 400: {"error": "no such order"}'),
        (answer(401), "answered 401"),
        (answer(404), "answered 404"),
        (answer(409), "answered 409"),
        (answer(302, location="http://169.254.169.254/"), "answered 302: redirects are not followed"),
        (answer(304), "answered 304: redirects"),
    ]
    async with endpoint(*[given for given, _ in expected]) as target:
        call = pgq.http_task("call", url=f"{target.url}/x?token=secret", **NOW)
        async with pgq.worker(concurrency=1):
            jobs = [await pgq.wait((await call.enqueue(1)).id) for _ in expected]

    assert len(target.received) == len(expected)
    for job, (_, text) in zip(jobs, expected, strict=True):
        assert job.status == JobStatus.FAILED
        assert job.error is not None
        assert job.error.message.startswith(f"{target.url}/x: {text}")
        assert "secret" not in job.error.message


async def test_retry_when_decides_about_other_answers(pgq: PgQueue) -> None:
    def conflicts_pass(_: int, error: BaseException, __: Any) -> bool | None:
        return True if isinstance(error, HttpAnswerError) and error.status == 409 else None

    async with endpoint(answer(409), answer(500), answer(404)) as target:
        pgq.http_task("call", url=target.url, retry_when=conflicts_pass, **NOW)
        job = await run(pgq, 1)

    assert (job.status, len(target.received)) == ("failed", 3)


@pytest.mark.parametrize(
    ("status", "says", "least"),
    [(429, "100", 100), (503, "100", 100), (503, "date", 99), (429, None, 10), (429, "soon", 10)],
)
async def test_a_target_that_asks_to_wait_gets_it_and_slows_its_limit(
    pgq: PgQueue, db: Connection, status: int, says: str | None, least: float
) -> None:
    async def is_settled() -> bool:
        return bool(await db.fetchval("select not exists (select from pgqueue.note)"))

    at = datetime.now(UTC) + timedelta(seconds=102)
    said = format_datetime(at, usegmt=True) if says == "date" else says
    async with endpoint(answer(status, **({} if said is None else {"retry_after": said}))) as target:
        slow = pgq.limit("target", rate=Rate(1000, 1, burst=10))
        pgq.http_task("call", url=target.url, limits=[slow], max_retries=0)
        job = await begin(pgq, 1)
        async with pgq.worker(poll_interval=0.05):
            with anyio.fail_after(60):
                async for waiting in pgq.watch(job.id):
                    if waiting.last_reason is not None:
                        break
            # The limit is closed right after the attempt has ended, and not by the statement that ends it.
            await eventually(is_settled)
            other = await begin(pgq, 2)

    assert (waiting.last_reason, waiting.attempt, len(target.received)) == ("rate_limited", 0, 1)
    assert waiting.next_run_at is not None
    assert (waiting.next_run_at - waiting.read_at).total_seconds() > least - 5
    # The limit lets no other job through before that.
    assert await other.status() == JobStatus.BLOCKED


def test_a_target_cannot_have_a_worker_ask_without_end() -> None:
    past = format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)

    assert answers.limited(0.0).delay == answers.limited(read_delay(past)).delay == 1.0
    assert [answers.is_patient(datetime.now(UTC) - timedelta(days=days)) for days in (6, 8)] == [True, False]
    late = answers.refusal("url", 429, "5", None, b"", is_patient=False)
    assert isinstance(late, HttpAnswerError)
    assert answers.rule(None)(1, late, None) is True
    # No time that it can be left alone for: a 503 like any other.
    for nonsense in ("-1", "nan", "1e9", ""):
        refusal = answers.refusal("url", 503, nonsense, None, b"")
        assert isinstance(refusal, HttpAnswerError)


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{")
    await writer.drain()
    line = writer.get_extra_info("socket")
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (hang, "HttpTimeoutError"),
        (drip, "HttpTimeoutError"),
        (reset, "HttpUnreachableError"),
        (nonsense, "HttpUnreachableError"),
    ],
)
async def test_a_target_that_hangs_drips_or_breaks_off_is_asked_again(
    pgq: PgQueue, given: Answer, error: str
) -> None:
    async with endpoint(given, OK) as target:
        timeout = 0.5 if error == "HttpTimeoutError" else 60
        pgq.http_task("call", url=target.url, timeout=timeout, max_retries=50, retry_intervals=[0])
        handle = await begin(pgq, 1)
        async with pgq.worker(poll_interval=0.05):
            with anyio.fail_after(60):
                # While the worker lives, and keeps what it may use again.
                await target.closed.wait()
                job = await pgq.wait(handle.id)

    assert job.status == JobStatus.SUCCEEDED
    # On a busy machine, others may have come too late as well.
    failed = (await pgq.attempts(job.id))[0]
    assert failed.error is not None
    assert failed.error.type == error


async def test_a_target_that_is_not_there_or_speaks_no_tls_is_asked_again(pgq: PgQueue) -> None:
    async def no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(no_tls, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        urls = {"refused": "http://127.0.0.1:1/", "tls": f"https://127.0.0.1:{port}/"}
        tasks = [pgq.http_task(each, url=urls[each], max_retries=1, retry_intervals=[0]) for each in urls]
        async with pgq.worker(poll_interval=0.05):
            jobs = [await pgq.wait((await each.enqueue(1)).id) for each in tasks]

    for job in jobs:
        assert [each.reason for each in await pgq.attempts(job.id)] == ["exception", "exception"]
        assert job.error is not None
        assert job.error.type == "HttpUnreachableError"


async def test_a_large_answer_is_not_read(pgq: PgQueue, caplog: pytest.LogCaptureFixture) -> None:
    async def much(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10000000000\r\n\r\n"
        )
        # Until the client closes its connection: who reads it all is never done.
        while True:
            writer.write(b"1" * 100_000)
            await writer.drain()

    async with endpoint(much) as target:
        pgq.http_task("call", url=target.url)
        pgq.http_task("typed", url=target.url, answer=int)
        with caplog.at_level(logging.WARNING):
            job = await run(pgq, 1)
        typed = await pgq.enqueue(pgq.signature("typed", 1))
        async with pgq.worker():
            with pytest.raises(JobFailed, match="pass a larger max_answer="):
                await typed.result(timeout=60)

    assert job.result == {"status": 200, "body": None}
    assert "answered more than 65536 bytes" in caplog.text
    # 2xx acknowledges, so the target is not asked again.
    assert len(target.received) == 2


async def test_a_cancelled_job_closes_its_connection(pgq: PgQueue) -> None:
    asked = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await hang(reader, writer)

    async with endpoint(wait) as target:
        pgq.http_task("call", url=target.url)
        job = await begin(pgq, 1)
        async with pgq.worker():
            with anyio.fail_after(60):
                await asked.wait()
                await job.cancel()
                ended = await pgq.wait(job.id)
                await target.closed.wait()

    assert ended.status == JobStatus.CANCELLED


APP = """
import os
from pgqueue import PgQueue
pgq = PgQueue(os.environ["PGQUEUE_TEST_DSN"])
pgq.http_task("call", url=os.environ["TARGET"], timeout=60)
"""


async def test_the_request_of_a_killed_worker_is_made_again_with_the_same_key(
    pgq: PgQueue, dsn: str, tmp_path: Path
) -> None:
    asked = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await hang(reader, writer)

    async with endpoint(wait, OK) as target:
        with processes_in(tmp_path, dsn) as processes:
            (tmp_path / "calls.py").write_text(APP)
            processes.environment["TARGET"] = target.url
            victim = processes.start("worker", "calls:pgq", "--lease-ttl=30")
            pgq.http_task("call", url=target.url)
            job = await begin(pgq, 1)
            with anyio.fail_after(2 * DEADLINE):
                await asked.wait()
                victim.kill()
                async with pgq.worker():
                    ended = await pgq.wait(job.id)

    assert (ended.status, ended.attempt, ended.losses) == (JobStatus.SUCCEEDED, 1, 1)
    assert [each.headers["idempotency-key"] for each in target.received] == [str(job.id)] * 2


async def test_an_answer_of_a_type_is_the_result(pgq: PgQueue) -> None:
    class Receipt(BaseModel):
        number: int

    async with endpoint(answer(200, {"number": 7}), answer(200, {"number": "seven"})) as target:
        call = pgq.http_task("call", url=target.url, answer=Receipt)
        first = await call.enqueue(1)
        async with pgq.worker(concurrency=1):
            assert await first.result(timeout=60) == Receipt(number=7)
            second = await call.enqueue(2)
            with pytest.raises(JobFailed):
                await second.result(timeout=60)

    assert len(target.received) == 2


async def test_one_client_serves_all_jobs_of_a_worker(pgq: PgQueue) -> None:
    made: list[httpx.AsyncClient] = []

    def make() -> httpx.AsyncClient:
        made.append(make_client())
        return made[-1]

    cookie = answer(200, {}, set_cookie="who=one")
    async with endpoint(cookie) as target:
        call = pgq.http_task("call", url=target.url, client=make)
        async with pgq.worker(concurrency=1), pgq.worker(concurrency=1):
            for each in range(4):
                await (await call.enqueue(each)).result(timeout=60)
        connections = target.connections
        closed = [each.is_closed for each in made]

    assert closed == [True]
    # One, unless a busy machine has let it wait for so long that it was closed.
    assert connections < 4
    assert not any("cookie" in each.headers for each in target.received)


async def test_a_hook_gives_headers_anew_for_each_request(pgq: PgQueue) -> None:
    tokens = iter(range(10))

    async def fetch() -> tuple[str, float]:
        return f"token-{next(tokens)}", 3600

    def plain() -> dict[str, str]:
        return {"X-Number": str(next(tokens))}

    bearer = BearerToken(fetch)
    async with endpoint(OK, OK, answer(401), OK, answer(401), answer(401)) as target:
        call = pgq.http_task("call", url=target.url, headers=bearer, max_retries=0)
        simple = pgq.http_task("plain", url=target.url, headers=plain)
        async with pgq.worker(concurrency=1):
            for _ in range(3):
                await (await call.enqueue()).result(timeout=60)
            with pytest.raises(JobFailed, match="answered 401"):
                await (await call.enqueue()).result(timeout=60)
            target.answers = [OK]
            await (await simple.enqueue()).result(timeout=60)

    # Kept, and fetched anew once after each 401.
    used = [each.headers.get("authorization") for each in target.received]
    assert used == [f"Bearer token-{each}" for each in (0, 0, 0, 1, 1, 2)] + [None]
    assert target.received[-1].headers["x-number"] == "3"


@pytest.mark.parametrize(
    "wrong",
    [{"x-a": "b\r\nx-evil: 1"}, {"x a": "b"}, {"x-a": 7}, {"Host": "evil.com"}, {"x-a": "☃"}, "x-a: b", None],
)
async def test_what_is_no_header_is_refused(pgq: PgQueue, wrong: Any) -> None:
    if wrong is not None:
        with pytest.raises(InvalidOptionError, match="HTTP task 'call': headers"):
            pgq.http_task("call", url="http://localhost/", headers=wrong)
    async with endpoint(OK) as target:
        pgq.http_task("call", url=target.url, headers=lambda: wrong, max_retries=0)
        job = await run(pgq)

    assert (job.status, target.received) == ("failed", [])


async def test_requests_are_signed_and_a_receiver_can_tell(pgq: PgQueue) -> None:
    async with endpoint(OK) as target:
        pgq.http_task(
            "call",
            url=target.url,
            secret=[SECRET, "another secret of ours"],
            headers={"webhook-id": "forged"},
        )
        job = await run(pgq, {"n": 1})
        [sent] = target.received

    assert sent.headers["webhook-id"] == str(job.id)
    for secret in (SECRET, "another secret of ours", ["an old one, long ago", SECRET]):
        assert verify(sent.body, sent.headers, secret) == {"n": 1}


# Targets that jobs choose


async def test_a_job_may_choose_a_target_that_the_task_allows(pgq: PgQueue) -> None:
    async with endpoint(OK) as one, endpoint(OK) as other:
        call = pgq.http_task("call", url=one.url, allow=[other.url])
        chosen = pgq.http_task("chosen", allow=[other.url])
        async with pgq.worker():
            await (await call.enqueue(1)).result(timeout=60)
            await (await call.enqueue(2, url=f"{other.url}/hook")).result(timeout=60)
        refused = [
            (call, {"url": f"{one.url}/hook"}),
            (call, {"url": "http://169.254.169.254/latest/meta-data"}),
            (chosen, {}),
            (pgq.http_task("fixed", url=one.url), {"url": other.url}),
        ]
        for task, arguments in refused:
            with pytest.raises(InvalidArgumentsError):
                await task.enqueue(3, **arguments)

    assert ([each.json for each in one.received], [each.path for each in other.received]) == ([1], ["/hook"])


async def test_a_name_that_leads_into_the_network_is_sent_nothing(pgq: PgQueue) -> None:
    """Also where another task has a connection to it open."""
    async with endpoint(OK) as target:
        named = target.url.replace("127.0.0.1", "localhost")
        trusting = pgq.http_task("trusting", allow=[named], allow_private=True)
        fixed = pgq.http_task("fixed", url=named)
        careful = pgq.http_task("careful", allow=[named], max_retries=0)
        async with pgq.worker(concurrency=1):
            await (await trusting.enqueue("trusting", url=named)).result(timeout=180)
            await (await fixed.enqueue("fixed")).result(timeout=180)
            with pytest.raises(
                JobFailed, match=r"its name leads to (127\.0\.0\.1|::1), which is no public address"
            ):
                await (await careful.enqueue("careful", url=named)).result(timeout=180)

    assert [each.json for each in target.received] == ["trusting", "fixed"]


async def test_a_proxy_decides_itself_where_names_lead(pgq: PgQueue) -> None:
    async with endpoint(OK) as proxy:
        call = pgq.http_task(
            "call", allow=["http://hooks.example.com"], client=lambda: httpx.AsyncClient(proxy=proxy.url)
        )
        async with pgq.worker():
            answered = await (await call.enqueue(1, url="http://hooks.example.com/x")).result(timeout=180)

    assert (answered["status"], proxy.received[0].path) == (200, "http://hooks.example.com/x")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("64:ff9b::5db8:d822", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fd00::1", False),
        ("fe80::1%eth0", False),
        ("ff0e::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("2001:0:a00:1::", False),
        ("an unknown address", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


ALLOWED = ["https://*.example.com", "https://api.example.org:8443", "http://[::1]:80"]


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example.com/x?y",
        "https://a.b.EXAMPLE.com:443/",
        "https://a.example.com./",
        "https://api.example.org:8443/",
        "http://[::1]/",
    ],
)
def test_what_is_allowed(url: str) -> None:
    assert check_allowed(url, read_allowed("task", ALLOWED)) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "http://a.example.com/",
        "https://a.example.com:8443/",
        "https://a.example.com.evil.com/",
        "https://evilexample.com/",
        "https://a.example.com@evil.com/",
        "https://evil.com/https://a.example.com",
        "https://evil.com#.example.com",
        "https://evil.com?.example.com",
        "https://evil.com\\.example.com/",
        "https://evil.com\t.example.com/",
        "https://a.example.com\u3002evil.com/",
        "https://.example.com/",
        "https://a..example.com/",
        "https:///a.example.com",
        "//a.example.com/",
        "ftp://a.example.com/",
        "file:///etc/passwd",
        "https://api.example.org/",
        "http://[::1",
        "http://::1/",
        "https://a.example.com:99999/",
        "https://a.example.com:x/",
        "https://a.example.com/" + "x" * 3000,
        "",
        None,
        7,
    ],
)
def test_what_is_not_allowed(url: Any) -> None:
    with pytest.raises(ValueError, match=r"URL|origin"):
        check_allowed(url, read_allowed("task", ALLOWED))


# What is declared wrongly


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"url": ""},
        {"url": "pay.internal/charge"},
        {"url": "https://user:pw@host/"},
        {"url": "https://host/#x"},
        {"url": "https://host/", "method": "BREW"},
        {"url": "https://host/", "timeout": 0},
        {"url": "https://host/", "allow": "https://host"},
        {"url": "https://host/", "allow": ["https://host/path"]},
        {"url": "https://host/", "allow": ["*"]},
        {"url": "https://host/", "secret": "short"},
        {"url": "https://host/", "secret": "whsec_no base64"},
        {"url": "https://host/", "secret": []},
        {"url": "https://host/", "max_answer": -1},
        {"url": "https://host/", "client": 7},
        {"url": "https://host/", "retry_when": 7},
        {"url": "https://host/", "isolation": "process"},
        {"url": "https://host/", "nonsense": 1},
        {"url": "https://host/", "body": SecretStr},
    ],
    ids=str,
)
def test_a_wrong_declaration_is_refused_and_declares_nothing(wrong: Any) -> None:
    pgq = PgQueue()

    with pytest.raises(ConfigurationError) as raised:
        pgq.http_task("call", **wrong)

    assert "call" not in pgq.registry.names
    assert "short" not in str(raised.value)


async def test_a_worker_without_httpx_says_which_extra_it_needs(
    pgq: PgQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    pgq.http_task("call", url="https://host/")
    monkeypatch.setitem(sys.modules, "httpx", None)

    # Who enqueues needs none.
    await begin(pgq, 1)
    with pytest.raises(WorkerLifespanError) as raised:
        async with pgq.worker():
            pass

    assert "pgqueue-asyncio[http]" in str(raised.value.__cause__)


async def test_it_works_inline_too(dsn: str) -> None:
    pgq = PgQueue(dsn)
    async with endpoint(OK) as target:
        call = pgq.http_task("call", url=target.url)
        with inline(pgq):
            async with pgq:
                assert await (await call.enqueue(1)).result() == {"status": 200, "body": {"ok": True}}
