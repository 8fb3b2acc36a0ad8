"""What goes into a job comes out of it: by every door, through workers, steps, results and retries."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from kit.command_line import Cli
from kit.web_client import client_of
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from pgqueue import CodecError, InvalidArgumentsError, JobContext, JobFailed, PgQueue
from pgqueue.blocking import BlockingPgQueue
from pgqueue.testing import runs_twice
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("W23")

TOKEN = {"authorization": "Bearer secret-of-16-chars"}
WHEN = datetime(2026, 1, 2, tzinfo=UTC)


class Receipt(BaseModel):
    model_config = ConfigDict(strict=True)
    charge_id: str = Field(alias="chargeId")
    at: datetime | None = None


class Vault(BaseModel):
    code: int = Field(0, exclude=True)


class Login(BaseModel):
    name: str
    password: SecretStr = Field(alias="passWord")


@pytest.fixture
async def client(pgq: PgQueue) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(status_app(pgq, token="secret-of-16-chars"), headers=TOKEN) as client:
        yield client


async def test_a_step_is_charged_once_whatever_its_result_is(pgq: PgQueue) -> None:
    charged: list[int] = []
    got: list[Receipt] = []

    async def charge(amount: int) -> Receipt:
        charged.append(amount)
        return Receipt(chargeId="ch_1", at=WHEN)

    @pgq.task(max_retries=2, default_retry_delay=0)
    async def pay(ctx: JobContext) -> str:
        got.append(await ctx.step("charge", charge, 5))
        if ctx.attempt == 1:
            raise ValueError
        return got[-1].charge_id

    job = await pay.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=60) == "ch_1"

    assert charged == [5]
    assert got == [Receipt(chargeId="ch_1", at=WHEN)] * 2


async def test_a_stored_step_that_cannot_be_read_is_no_second_charge(pgq: PgQueue, db: Connection) -> None:
    charged: list[int] = []

    async def charge() -> int:
        charged.append(1)
        return 7

    @pgq.task(max_retries=3, default_retry_delay=0)
    async def pay(ctx: JobContext) -> int:
        number = await ctx.step("charge", charge)
        await db.execute("update pgqueue.step set result = '\"seven\"'")
        if ctx.attempt == 1:
            raise ValueError
        return number

    job = await pay.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed, match=r"the result of step 'charge' .* does not run again") as raised:
            await job.result(timeout=60)
        assert raised.value.error_type == "CodecError"
        assert (await job.refresh()).attempt == 2
        await pgq.redrive(job.id)
        with pytest.raises(JobFailed, match="CodecError"):
            await job.result(timeout=60)

    assert charged == [1]


async def test_a_result_that_does_not_come_back_fails_the_attempt_and_says_why(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> Any:
        return {"at": WHEN}

    job = await work.enqueue()
    async with pgq.worker():
        with pytest.raises(JobFailed, match="annotate it with its type") as raised:
            await job.result(timeout=60)

    assert raised.value.reason == "unstorable_result"
    assert (await job.refresh()).attempt == 1


async def test_a_stored_result_that_does_not_fit_is_a_codec_error(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work() -> int:
        return 5

    job = await work.enqueue()
    async with pgq.worker():
        await job.result(timeout=60)
    await db.execute("set pgqueue.writer to 'on'")
    await db.execute("update pgqueue.job set result = '\"five\"' where id = $1", job.id)

    with pytest.raises(CodecError, match=r"the result of job .* cannot be decoded") as raised:
        await job.result(timeout=60)

    assert raised.value.__cause__ is None, "pydantic's error quotes the value"


async def test_every_door_carries_the_same_value(
    pgq: PgQueue, client: httpx.AsyncClient, db: Connection, dsn: str
) -> None:
    seen: list[tuple[Receipt, bytes, str]] = []

    @pgq.task(max_retries=2, default_retry_delay=0)
    async def work(ctx: JobContext, receipt: Receipt, raw: bytes, *, password: SecretStr) -> None:
        seen.append((receipt, raw, password.get_secret_value()))
        if receipt.charge_id == "first" and ctx.attempt == 1:
            again = Receipt(chargeId="again", at=WHEN)
            raise ctx.retry(args=(again, raw), kwargs={"password": password})

    def expected(name: str) -> tuple[Receipt, bytes, str]:
        return Receipt(chargeId=name, at=WHEN), b"\xff\x00", "hunter2"

    def call(name: str) -> dict[str, Any]:
        return {
            "receipt": {"chargeId": name, "at": "2026-01-02T00:00:00Z"},
            "raw": base64.urlsafe_b64encode(b"\xff\x00").decode(),
            "password": "hunter2",
        }

    receipt, raw, _ = expected("python")
    jobs = [
        await work.enqueue(receipt, raw, password=SecretStr("hunter2")),
        await work.enqueue(expected("first")[0], raw, password=SecretStr("hunter2")),
        await pgq.enqueue_by_name("work", expected("name")[0], raw, password=SecretStr("hunter2")),
    ]
    jobs += await pgq.enqueue_many([work.s(expected("batch")[0], raw, password=SecretStr("hunter2"))])
    answer = await client.post("/jobs", json={"task": "work", "arguments": call("http")})
    assert answer.status_code == 202, answer.text
    jobs.append(pgq.handle(UUID(answer.json()["job_id"])))
    printed = await Cli(dsn).json("enqueue", "work", json.dumps(call("shell")))
    jobs.append(pgq.handle(UUID(printed["job_id"])))
    by_sql = await db.fetchval("select pgqueue.enqueue('work', $1::json)", json.dumps(call("sql")))
    jobs.append(pgq.handle(by_sql))

    async with pgq.worker(concurrency=1):
        for job in jobs:
            await job.result(timeout=60)

    names = ["python", "first", "name", "batch", "http", "shell", "sql", "again"]
    assert sorted(seen, key=lambda each: each[0].charge_id) == sorted(
        map(expected, names), key=lambda each: each[0].charge_id
    )


async def test_a_call_over_http_that_does_not_come_back_is_refused(
    pgq: PgQueue, client: httpx.AsyncClient
) -> None:
    @pgq.task
    async def work(vault: Vault) -> None: ...

    answer = await client.post("/jobs", json={"task": "work", "arguments": {"vault": {"code": 5}}})

    assert answer.status_code == 422
    assert "argument 'vault' would not come back" in answer.text
    assert (await pgq.jobs()).jobs == []


def test_the_blocking_client_refuses_what_does_not_come_back(dsn: str) -> None:
    pgq = PgQueue(dsn)

    @pgq.task
    async def work(value: Any) -> None: ...

    with (
        BlockingPgQueue(pgq) as blocking,
        pytest.raises(InvalidArgumentsError, match="annotate it") as raised,
    ):
        blocking.enqueue(work.s({1, 2}))

    assert raised.value.argument == "value"


async def test_secrets_travel_in_plain_and_are_shown_nowhere(
    pgq: PgQueue, db: Connection, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    @pgq.task(max_retries=0)
    async def work(login: Login, token: SecretStr, logins: list[Login]) -> Login:
        seen.extend(each.get_secret_value() for each in (login.password, token, logins[0].password))
        return login

    @pgq.task(max_retries=0)
    async def fail(token: SecretStr) -> None:
        raise ValueError("no")

    def login(secret: str) -> Login:
        return Login(name="ann", passWord=SecretStr(secret))

    job = await work.enqueue(login("hunter2"), SecretStr("hunter3"), [login("hunter4")])
    failed = await fail.enqueue(SecretStr("hunter5"))
    async with pgq.worker():
        assert (await job.result(timeout=60)).password.get_secret_value() == "hunter2"
        with pytest.raises(JobFailed):
            await failed.result(timeout=60)
    assert seen == ["hunter2", "hunter3", "hunter4"]
    assert await db.fetchval("select arguments::text from pgqueue.job where id = $1", job.id) == (
        '{"login":{"name":"ann","password":"hunter2"},"token":"hunter3",'
        '"logins":[{"name":"ann","password":"hunter4"}]}'
    )

    shown = [caplog.text]
    for path in (
        "/jobs",
        f"/jobs/{job.id}",
        f"/jobs/{job.id}/result",
        f"/dead-letters/{failed.id}",
        "/dead-letters",
        f"/dashboard/jobs/{job.id}",
        f"/dashboard/jobs/{failed.id}",
        f"/dashboard/dead-letters/{failed.id}",
        f"/dashboard/jobs/{failed.id}/redrive",
        "/dashboard/jobs",
    ):
        answer = await client.get(path, headers={"accept": "text/html, application/json"})
        assert answer.status_code in {200, 404, 409}, path
        shown.append(answer.text)

    for text in shown:
        assert "hunter" not in text
    assert (await client.get(f"/jobs/{job.id}/result")).json() == {"name": "ann", "password": "[redacted]"}
    assert pgq.shown_arguments(await job.refresh())["login"]["password"] == "[redacted]"


async def test_two_runs_that_differ_in_a_secret_do_not_tell_it(pgq: PgQueue) -> None:
    runs: list[int] = []

    @pgq.task(max_retries=0)
    async def work() -> SecretStr:
        runs.append(1)
        return SecretStr(f"hunter{len(runs)}")

    with runs_twice(pgq):
        job = await work.enqueue()
        async with pgq.worker():
            with pytest.raises(JobFailed, match=r"ended differently: .*\[redacted\]") as raised:
                await job.result(timeout=60)

    assert len(runs) == 2
    assert "hunter" not in str(raised.value)


async def test_a_secret_can_be_replaced_when_a_job_is_redriven(pgq: PgQueue) -> None:
    seen: list[str] = []

    @pgq.task(max_retries=0)
    async def work(login: Login) -> None:
        seen.append(login.password.get_secret_value())
        if len(seen) == 1:
            raise ValueError

    job = await work.enqueue(Login(name="ann", passWord=SecretStr("old")))
    async with pgq.worker():
        with pytest.raises(JobFailed):
            await job.result(timeout=60)
        shown = pgq.shown_arguments(await job.refresh())
        with pytest.raises(InvalidArgumentsError, match="placeholder"):
            await pgq.redrive(job.id, arguments=shown)
        await pgq.redrive(job.id, arguments={"login": {"name": "ann", "passWord": "new"}})
        await job.result(timeout=60)

    assert seen == ["old", "new"]
