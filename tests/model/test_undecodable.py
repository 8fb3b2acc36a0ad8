"""Jobs of which something cannot be decoded: the rest of them is shown, and all the others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.command_line import Cli
from kit.scene import allow

from pgqueue import CodecError, JobStatus, PgQueue
from pgqueue.cli.commands.jobs import describe_job, job_row
from pgqueue.model.stored_json import MAX_DEPTH, decode_json
from pgqueue.tasks.redaction import REDACTED
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

FOREIGN = {
    "arguments": ['{"n": 1e999}', f'{{"n": {"9" * 5000}}}', f'{{"n": {"[" * 3000}{"]" * 3000}}}'],
    "headers": ["[1]", '"text"'],
    "options": ["[1]", "7"],
    "result": ["1e999", "[" * 3000 + "]" * 3000],
}
"""What PostgreSQL stores as JSON, and pgqueue does not."""

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


class Sealed:
    """A codec that reads only what it has written."""

    def encode(self, document: str) -> str:
        return json.dumps({"sealed": document})

    def decode(self, stored: str) -> str:
        document: str = json.loads(stored)["sealed"]
        return document


@given(values)
def test_what_json_is_made_of_is_what_is_decoded(value: Any) -> None:
    assert decode_json(json.dumps(value)) == value


@pytest.mark.parametrize("stored", [*FOREIGN["arguments"], *FOREIGN["result"], "-1e400", "[1E+999]"])
def test_what_cannot_be_made_json_of_again_is_refused(stored: str) -> None:
    with pytest.raises(ValueError, match=r"too large|nested too deeply|limit"):
        decode_json(stored)


@pytest.mark.parametrize("stored", ["[" * MAX_DEPTH + "]" * MAX_DEPTH, f"[{'[],' * 2 * MAX_DEPTH}1]"])
def test_many_brackets_are_no_many_levels(stored: str) -> None:
    assert json.dumps(decode_json(stored), separators=(",", ":")) == stored


async def make_foreign(db: Connection, column: str, stored: str) -> UUID:
    """Enqueue a job that has succeeded, with *stored* in one of its columns."""
    job: UUID = await db.fetchval("select pgqueue.enqueue('echo', '{}')")
    async with db.transaction():
        await db.execute("set local pgqueue.writer to 'on'")
        await db.execute("delete from pgqueue.ready where job_id = $1", job)
        await db.execute(
            f"update pgqueue.job set status = 'succeeded', completed_at = now(), {column} = $2 where id = $1",
            job,
            stored,
        )
    return job


@pytest.mark.contract("P4.13", "P6.2")
async def test_one_undecodable_job_does_not_hide_the_others(pgq: PgQueue, db: Connection) -> None:
    foreign = {
        await make_foreign(db, column, stored): column
        for column, documents in FOREIGN.items()
        for stored in documents
    }
    good = await pgq.enqueue_by_name("echo", 1)
    app = status_app(pgq, authorize=allow)

    page = await pgq.jobs()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        listed = await client.get("/jobs")
        shown = await client.get("/dashboard/jobs")
        polls = [await client.get(f"/jobs/{job.id}") for job in page.jobs]
        pages = [await client.get(f"/dashboard/jobs/{job.id}") for job in page.jobs]

    assert {job.id: list(job.undecodable) for job in page.jobs} == {
        good.id: [],
        **{job_id: [column] for job_id, column in foreign.items()},
    }
    assert {each["job_id"]: each["undecodable"] for each in listed.json()["jobs"]} == {
        str(job.id): list(job.undecodable) for job in page.jobs
    }
    assert shown.text.count("cannot be decoded here") == len(foreign)
    assert [answer.status_code for answer in (*polls, *pages)] == [200] * 2 * len(page.jobs)
    assert all(
        "Traceback" not in line for job in page.jobs for line in [*describe_job(job, [], []), *job_row(job)]
    )


@pytest.mark.contract("P4.14", "P6.2")
async def test_what_another_codec_has_written_is_named_and_all_else_is_shown(dsn: str, pgq: PgQueue) -> None:
    @pgq.task(name="echo")
    async def echo(value: int) -> int:
        return value

    plain = await echo.options(tags=["old"]).enqueue(7)
    async with pgq.worker():
        await plain.result(timeout=60)
    async with PgQueue(dsn, codec=Sealed()) as sealed:
        app = status_app(sealed, authorize=allow, show_tracebacks=True)
        job = await sealed.get(plain.id)
        transport = httpx.ASGITransport(app)

        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            poll = await client.get(f"/jobs/{plain.id}")
            result = await client.get(f"/jobs/{plain.id}/result")
            page = await client.get(f"/dashboard/jobs/{plain.id}")
        with pytest.raises(CodecError, match=f"the result of job {plain.id} cannot be decoded") as raised:
            await sealed.handle(plain.id).result(timeout=60)

    assert (job.status, job.tags, sorted(job.undecodable)) == (
        JobStatus.SUCCEEDED,
        ("old",),
        ["arguments", "result"],
    )
    assert raised.value.job_id == plain.id
    assert poll.json()["undecodable"] == ["arguments", "result"]
    assert (poll.status_code, poll.json()["status"], poll.json()["result"]) == (200, "succeeded", None)
    assert (result.status_code, result.headers["content-type"]) == (500, "application/problem+json")
    assert page.text.count("cannot be decoded here") == 2


async def test_a_dead_letter_that_cannot_be_decoded_is_shown_as_it_is_stored(
    dsn: str, pgq: PgQueue, db: Connection
) -> None:
    async with PgQueue(dsn, codec=Sealed(), redact=["secret"], unknown_task_grace=0.001) as sealed:

        @sealed.task(name="echo")
        async def echo(secret: str) -> None: ...

        job = await db.fetchval("""select pgqueue.enqueue('echo', '{"secret": "hunter2"}')""")
        async with sealed.worker():
            await sealed.wait(job)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(status_app(sealed, authorize=allow)), base_url="http://localhost"
        ) as client:
            letter = (await client.get(f"/dead-letters/{job}")).json()["job"]
            page = await client.get(f"/dashboard/jobs/{job}")

    assert (letter["undecodable"], letter["arguments"]) == (["arguments"], {"secret": REDACTED})
    assert "hunter2" not in page.text


async def test_half_a_surrogate_pair_is_shown(pgq: PgQueue, db: Connection) -> None:
    job = await make_foreign(db, "result", '"half \\ud800"')
    app = status_app(pgq, authorize=allow)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answers = [await client.get(path) for path in ("/jobs", f"/jobs/{job}", f"/dashboard/jobs/{job}")]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].json()["jobs"][0]["result"] == "half \ud800"


async def test_the_command_line_shows_them(dsn: str, db: Connection) -> None:
    job = await make_foreign(db, "result", "1e999")
    cli = Cli(dsn)

    listed, table, _ = await cli("jobs")
    shown, facts, _ = await cli("job", job)
    document = await cli.json("job", job)

    assert (listed, shown) == (0, 0)
    assert "cannot be decoded here: result" in table
    assert "undecoded: result: the number 1e999 is too large" in facts
    assert (document["result"], document["undecodable"]) == (None, ["result"])


async def test_an_error_that_pgqueue_has_not_written_is_shown_as_it_is(pgq: PgQueue, db: Connection) -> None:
    job: UUID = await db.fetchval("select pgqueue.enqueue('echo', '{}')")
    await db.execute(
        "insert into pgqueue.attempt (job_id, attempt, reason, error) values ($1, 1, 'odd', '[\"what\"]')",
        job,
    )

    [attempt] = await pgq.attempts(job)

    assert attempt.error is not None
    assert (attempt.error.type, attempt.error.message) == ("unknown", '["what"]')
