"""Every parameter that callers have takes a value, or refuses it at the call, with an error of pgqueue's.

The matrix is made of the signatures and of the table of options, so a parameter that is added is tried.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import pytest

from pgqueue import JobFilter, JobHandle, PgQueue, PgQueueError, RedriveHandle, Retry, Snooze, Task
from pgqueue.options.table import AT, Level

if TYPE_CHECKING:
    from conftest import Connection

WITHIN = 60.0
FAR = "\N{GRINNING FACE}"

TEXTS = [
    "",
    "a\0b",
    "\ud800",
    "x\udfffy",
    FAR * 100,
    FAR * 200,
    FAR * 255,
    FAR * 512,
    FAR * 1001,
    "x" * 10**6,
]
NUMBERS = [
    -1, 0, 1, 2**15, 2**31 - 1, 2**31, 2**63, 2**64, -(2**31) - 1, 10**400, 10**5000, 1e-320, 1e300, -1e300,
    float("nan"), float("inf"), float("-inf"), True,
]  # fmt: skip
START, END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
WEST, EAST = timezone(timedelta(hours=-14)), timezone(timedelta(hours=14))
TIMES = [
    *(end.replace(tzinfo=zone) for end in (START, END) for zone in (None, UTC, WEST, EAST)),
    datetime(9999, 12, 30, tzinfo=UTC),
    datetime(1, 1, 2, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=EAST),
]
DURATIONS = [timedelta.max, timedelta.min, timedelta(microseconds=1), timedelta(days=365_000)]
COLLECTIONS = [
    [], ["x"] * 101, ["\ud800"], ["a\0b"], ["x" * 513], [1e300], [10**400], [None], {}, {"a\0": "b"},
    {"a": "\ud800"}, {"a": 1}, {str(n): "x" for n in range(101)}, {"a": "x" * 10_000}, object(),
]  # fmt: skip
HOSTILE: list[Any] = [*TEXTS, *NUMBERS, *TIMES, *DURATIONS, *COLLECTIONS]

STATE = """select (select count(*) from pgqueue.job), (select count(*) from pgqueue.setting),
    (select count(*) from pgqueue.mass_redrive), (select count(*) from pgqueue.inbox),
    (select count(*) from pgqueue.action), (select count(*) from pgqueue.cancel_request),
    (select count(*) from pgqueue.dead_letter), (select count(*) from pgqueue.idempotency_key),
    (select count(*) from pgqueue.limit_rule), (select count(*) from pgqueue.bulk)"""


def said(value: object) -> str:
    """Return *value* as an assertion shows it."""
    try:
        return repr(value)[:60]
    except ValueError:
        return "a very large number"


async def outcome(call: Callable[[], Any]) -> object:
    """Return what a call comes to: its result, or the error."""
    try:
        with anyio.move_on_after(0.5):
            made = call()
            if inspect.isasyncgen(made):
                return [each async for each in made]
            return await made if inspect.isawaitable(made) else made
    except Exception as error:
        return error
    return "waits"


# In Python

IDS = {"job_id", "redrive_id", "workflow_id", "bulk_id", "ids"}
"""Parameters that take ids, which have tests of their own."""
NO_VALUES = {
    "args", "kwargs", "arguments", "canvas", "connection", "dag", "details", "job", "signature", "signatures",
}  # fmt: skip
"""Parameters that take no single value: arguments of a call, connections, and what pgqueue returned."""
WHILE_SET_UP = {
    "open", "close", "migrate", "pending_migrations", "check", "now", "observe", "on_dead", "task",
    "attempt_runner", "running_twice", "decode_result", "schedule",
}  # fmt: skip
"""Methods without values, or that take code."""


@pytest.fixture
async def known(pgq: PgQueue) -> dict[str, Any]:
    """What each parameter is otherwise."""

    @pgq.task(max_retries=0)
    async def fail() -> None:
        raise ValueError

    job = await fail.enqueue()
    async with pgq.worker():
        await pgq.wait(job.id)
    dag = pgq.workflow("dag")
    dag.add("fail", fail.s())
    return {
        "canvas": fail.s(),
        "dag": dag,
        "job_id": job.id,
        "redrive_id": uuid4(),
        "bulk_id": uuid4(),
        "verb": "cancel",
        "workflow_id": uuid4(),
        "ids": [job.id],
        "task": "fail",
        "name": "fail",
        "step": "charge",
        "queue": "default",
        "priority": 1,
        "slots": 1,
        "on_dead": "skip",
        "key": "a",
        "limit": 1,
        "per": 1.0,
        "weight": 1,
        "source": "s",
        "event_id": "e",
        "session": "s",
        "secret": "a secret of sixteen bytes or more",
        "owner": "ann",
        "valid_until": 1.0,
        "chosen": JobFilter(),
        "all": True,
        "signature": fail.s(),
        "signatures": [fail.s()],
        "job": await job.refresh(),
        "arguments": {},
    }


METHODS = [
    (kind, name)
    for kind in (PgQueue, JobHandle, RedriveHandle)
    for name, method in inspect.getmembers(kind, inspect.isfunction)
    if not name.startswith("_") and name not in WHILE_SET_UP and len(inspect.signature(method).parameters) > 1
]


@pytest.mark.contract("W9")
@pytest.mark.parametrize(("kind", "method"), METHODS, ids=lambda value: getattr(value, "__name__", value))
async def test_every_parameter_takes_a_value_or_refuses_it_and_changes_nothing(
    kind: type, method: str, pgq: PgQueue, known: dict[str, Any], db: Connection
) -> None:
    owner: Any = {
        PgQueue: pgq,
        JobHandle: pgq.handle(known["job_id"]),
        RedriveHandle: pgq.redrive_handle(known["redrive_id"]),
    }[kind]
    function = getattr(owner, method)
    parameters = {
        name: each
        for name, each in inspect.signature(function).parameters.items()
        if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }

    for parameter in parameters.keys() - IDS - NO_VALUES:
        given = {
            name: known[name]
            for name, each in parameters.items()
            if name in known and name != parameter and (each.default is each.empty or name == "all")
        }
        if method in ("pause", "resume") and parameter not in ("queue", "task"):
            given["queue"] = "default"
        for value in HOSTILE:
            before = await db.fetchrow(STATE)
            values = {**given, parameter: value}
            at = [
                values.pop(name)
                for name, each in parameters.items()
                if each.kind is each.POSITIONAL_ONLY and name in values
            ]
            found = await outcome(partial(function, *at, **values))
            if isinstance(found, Exception):
                assert isinstance(found, PgQueueError), f"{parameter}={said(value)}: {found!r}"
                assert await db.fetchrow(STATE) == before, f"{parameter}={said(value)}"
    await pgq.check()


async def enqueue(task: Task[[], None], options: Any) -> JobHandle[None]:
    """Enqueue a call with *options*."""
    return await task.options(**options).enqueue()


CALL_OPTIONS = sorted(AT[Level.CALL])


@pytest.mark.contract("W9")
@pytest.mark.parametrize("option", CALL_OPTIONS)
async def test_every_option_of_a_call_comes_back_as_it_went_in_or_is_refused(
    option: str, pgq: PgQueue, db: Connection
) -> None:
    @pgq.task
    async def work() -> None: ...

    others = {"idempotency_key": "key"} if option.startswith(("idempotency", "on_c")) else {}
    for value in HOSTILE:
        before = await db.fetchrow(STATE)
        options = {**others, option: value}
        found = await outcome(partial(enqueue, work, options))
        if isinstance(found, Exception):
            assert isinstance(found, PgQueueError), f"{option}={said(value)}: {found!r}"
            assert await db.fetchrow(STATE) == before
            continue
        assert isinstance(found, JobHandle)
        job = await found.refresh()
        if option in ("queue", "key", "run_at", "priority"):
            assert getattr(job, option) == value
        elif option == "tags":
            assert [*job.tags] == value
        elif option == "headers":
            assert job.headers == value
        elif option == "expires" and isinstance(value, datetime):
            assert job.expires_at == value


@pytest.mark.contract("W9")
@pytest.mark.parametrize("option", sorted(AT[Level.RUN_TIME]))
async def test_every_option_at_run_time_is_kept_or_refused(option: str, pgq: PgQueue) -> None:
    for value in HOSTILE:
        options = {option: value}
        found = await outcome(partial(pgq.configure_task, "work", **options))
        assert found is None or isinstance(found, PgQueueError), f"{option}={said(value)}: {found!r}"
        await pgq.settings()


@pytest.mark.contract("W9")
@pytest.mark.parametrize(
    "make",
    [
        lambda value: Retry(countdown=value),
        lambda value: Retry(eta=value),
        lambda value: Retry(max_retries=value),
        Snooze,
        *(
            (lambda value, name=name: PgQueue("postgresql://nowhere", **{name: value}))
            for name in (
                "schema", "max_depth", "payload_limit", "max_connections", "connect_timeout", "version",
                "unknown_task_grace", "retention",
            )
        ),
        lambda value: PgQueue("postgresql://nowhere").queue(value),
        lambda value: PgQueue("postgresql://nowhere").queue("mail", max_depth=value),
        lambda value: PgQueue("postgresql://nowhere").task(name=value)(print),
    ],
)  # fmt: skip
def test_what_is_made_without_a_database_refuses_what_it_cannot_keep(make: Callable[[Any], Any]) -> None:
    for value in HOSTILE:
        try:
            make(value)
        except PgQueueError:
            pass
        except Exception as error:
            pytest.fail(f"{said(value)}: {error!r}")
