"""Why arguments do not fit is told without the values, and without the names that others chose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside
from kit.web_client import client_of
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from pgqueue import InvalidArgumentsError, PgQueue
from pgqueue.tasks.mismatch import without_values
from pgqueue.web import status_app

if TYPE_CHECKING:
    from conftest import Connection

pytestmark = pytest.mark.contract("W27")

SECRET = "hunter2SECRET"


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


def refuse(value: str) -> str:
    raise ValueError(f"{value} is not good enough")


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]
Word = Annotated[str, AfterValidator(refuse)]


@given(
    st.text("abcxyz-!", min_size=5),
    st.sampled_from([Pet, Word, int, Literal["a"], list[Pet], dict[str, Word]]),
)
def test_a_message_does_not_repeat_the_value(value: str, shape: Any) -> None:
    secret = f"{value}-secret"
    for given_value in (secret, {"kind": secret}, [{"kind": secret}], {"a": secret}):
        try:
            TypeAdapter(shape).validate_python(given_value)
        except ValidationError as error:
            for _, message in without_values(error.errors(), names_extra=True):
                assert secret not in message


async def test_what_is_stored_is_refused_without_its_values_and_names(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(redact=["password"], max_retries=0)
    async def login(password: int) -> None: ...

    @pgq.task(max_retries=0)
    async def adopt(pet: Pet) -> None: ...

    ids = [
        await db.fetchval("select pgqueue.enqueue($1, $2::json)", task, stored)
        for task, stored in (
            ("login", f'{{"password": "{SECRET}"}}'),
            ("login", f'{{"password": 1, "{SECRET}": 1}}'),
            ("adopt", f'{{"pet": {{"kind": "{SECRET}"}}}}'),
        )
    ]
    inside.end_grace(pgq)
    async with pgq.worker():
        jobs = [await pgq.wait(each) for each in ids]

    for job in jobs:
        assert job.error is not None
        assert SECRET not in job.error.message
        assert SECRET not in (job.error.traceback or "")


async def test_a_caller_reads_the_names_it_sent(pgq: PgQueue) -> None:
    @pgq.task
    async def adopt(pet: Pet) -> None: ...

    call: Any = adopt
    with pytest.raises(InvalidArgumentsError, match="pte") as raised:
        await call.enqueue(pte={"kind": SECRET})

    assert SECRET not in str(raised.value)


async def test_a_surplus_argument_may_be_the_secret_by_another_name(pgq: PgQueue, db: Connection) -> None:
    @pgq.task(redact=["password"], max_retries=0)
    async def login(password: str) -> None: ...

    job_id = await db.fetchval(
        "select pgqueue.enqueue('login', $1::json)",
        f'{{"password": "p", "passwort": "{SECRET}", "{SECRET}": 1}}',
    )
    job = await pgq.get(job_id)
    async with client_of(status_app(pgq, local_reading=True)) as client:
        page = await client.get(f"/dashboard/jobs/{job_id}")
    async with client_of(status_app(pgq, authorize=lambda *_: True)) as client:
        refused = await client.post(
            "/jobs", json={"task": "login", "arguments": {"password": "p", SECRET: 1}}
        )

    assert pgq.shown_arguments(job) == {"password": "[redacted]", "[redacted]": "[redacted]"}
    assert (page.status_code, SECRET in page.text) == (200, False)
    assert (refused.status_code, SECRET in refused.text) == (422, False)
