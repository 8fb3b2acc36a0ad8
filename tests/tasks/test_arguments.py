"""Arguments and results: what fits the handler's annotations is stored and comes back; nothing else is."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import inside
from pydantic import BaseModel, Field, NaiveDatetime

from pgqueue import (
    Depends,
    DuplicateTaskError,
    InvalidArgumentsError,
    InvalidTaskError,
    JobContext,
    JobFailed,
    PayloadTooLargeError,
    PgQueue,
)
from pgqueue.tasks.arguments import Arguments
from pgqueue.tasks.payload import encode_by_name
from pgqueue.tasks.refusals import UndecodableError

if TYPE_CHECKING:
    from conftest import Connection

DSN = "postgresql://nowhere/none"
LIMIT = 1024 * 1024
NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001  # that is the point
AWARE = datetime(2030, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    moved_in: datetime | None = None


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Unstorable:
    pass


storable_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | storable_text,
    lambda children: (
        st.lists(children)
        | st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters="\0")), children)
    ),
    max_leaves=20,
)


def carried(handler: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what the handler is called with when it is enqueued so."""
    arguments = Arguments("work", handler, context_type=JobContext)
    return arguments.decode(arguments.encode(args, kwargs, limit=LIMIT))


# Bad calls write nothing


def wrong_calls(pgq: PgQueue) -> dict[str, tuple[Callable[[], Any], str | None, str]]:
    """Return calls that are wrong, with the argument at fault and what the error says."""

    @pgq.task
    async def work(
        number: int, text: str = "", *, when: datetime | None = None, rest: Any = None
    ) -> None: ...

    @pgq.task
    async def by_position(number: int, /) -> None: ...

    @pgq.task
    async def nested(points: list[Point], by_name: dict[str, list[datetime]] | None = None) -> None: ...

    cyclic: list[Any] = []
    cyclic.append(cyclic)
    call: Any = work
    other: Any = by_position
    deep: Any = nested
    return {
        "missing": (call.enqueue, "number", "Field required|Missing"),
        "too many": (lambda: call.enqueue(1, "a", "b"), None, "takes 2 positional arguments, got 3"),
        "no such name": (lambda: call.enqueue(1, nmber=2), "nmber", "not permitted|Unexpected"),
        "given twice": (lambda: call.enqueue(1, number=2), "number", "both by position and by name"),
        "wrong type": (lambda: call.enqueue("one"), "number", "integer"),
        "not a number": (lambda: call.enqueue(math.nan), "number", "finite"),
        "keyword for a positional-only": (other.enqueue, "number", "required|Missing"),
        "an object": (lambda: call.enqueue(1, rest=Unstorable()), "rest", "Unable to serialize"),
        "an object within": (
            lambda: call.enqueue(1, rest={"a": [Unstorable()]}),
            "rest",
            "Unable to serialize",
        ),
        "a function": (lambda: call.enqueue(1, rest=len), "rest", "Unable to serialize"),
        "a circle": (lambda: call.enqueue(1, rest=cyclic), "rest", "[Cc]ircular"),
        "half a character": (lambda: call.enqueue(1, "\ud800"), "text", "surrogate|UTF-8|utf-8|unicode"),
        "half a character in any": (lambda: call.enqueue(1, rest="\ud800"), "rest", "surrogate|UTF-8|utf-8"),
        "too long": (lambda: call.enqueue(1, "a" * LIMIT), None, r"1,048,\d{3} bytes .* limit is 1,048,576"),
        "naive datetime": (lambda: call.enqueue(1, when=NAIVE), "when", "timezone"),
        "naive datetime within": (lambda: deep.enqueue([], {"a": [NAIVE]}), "by_name", "timezone"),
        "NUL": (lambda: call.enqueue(1, "a\0b"), "text", "NUL"),
        "NUL within": (lambda: call.enqueue(1, rest=[{"a": "\\\0"}]), "rest", "NUL"),
        "NUL in a key": (lambda: call.enqueue(1, rest={"a\0": 1}), "rest", "NUL"),
        "wrong within": (lambda: deep.enqueue([{"x": 1}]), "points", "y"),
        "by name: an object": (lambda: pgq.enqueue_by_name("far", Unstorable()), None, "Unable to serialize"),
        "by name: NUL": (lambda: pgq.enqueue_by_name("far", text="\0"), "text", "NUL"),
        "by name: too long": (lambda: pgq.enqueue_by_name("far", "a" * LIMIT), None, "limit is 1,048,576"),
    }


WRONG_CALLS = list(wrong_calls(PgQueue(DSN)))


@pytest.mark.contract("P1.4")
@pytest.mark.parametrize("which", WRONG_CALLS)
async def test_a_wrong_call_names_task_and_argument_and_writes_nothing(
    pgq: PgQueue, db: Connection, which: str
) -> None:
    call, argument, said = wrong_calls(pgq)[which]

    with pytest.raises(InvalidArgumentsError, match=said) as raised:
        await call()

    assert raised.value.task in {"work", "by_position", "nested", "far"}
    assert f"task {raised.value.task!r}: " in str(raised.value)
    assert raised.value.argument == argument
    if argument is not None:
        assert argument in str(raised.value)
    assert await db.fetchval("select count(*) from pgqueue.job") == 0
    assert await db.fetchval("select count(*) from pgqueue.ready") == 0


@pytest.mark.contract("W21")
@pytest.mark.parametrize("faults", [100, 101])
def test_many_faults_are_counted_and_not_listed(faults: int) -> None:
    pgq = PgQueue(DSN)

    @pgq.task
    async def work(numbers: list[int]) -> list[int]:
        return numbers

    arguments, result = work.definition.arguments, work.definition.result
    wrong = ["x"] * faults
    surplus = {"numbers": [], **{f"surplus_{number}": 1 for number in range(faults)}}
    said: dict[str, str] = {}
    doors: dict[str, Callable[[], object]] = {
        "a call": lambda: arguments.encode((wrong,), {}, limit=LIMIT),
        "a surplus": lambda: arguments.encode((), surplus, limit=LIMIT),
        "a job": lambda: arguments.decode(json.dumps({"numbers": wrong})),
        "a job by position": lambda: arguments.decode(json.dumps([wrong])),
        "a surplus of a job": lambda: arguments.decode(json.dumps(surplus)),
        "a result": lambda: result.encode(wrong, limit=LIMIT),
    }
    for what, do in doors.items():
        with pytest.raises((InvalidArgumentsError, UndecodableError, ValueError)) as raised:
            do()
        said[what] = str(raised.value)
        assert len(getattr(raised.value, "errors", [])) in ({0, faults} if faults <= 100 else {0})

    assert {what for what, text in said.items() if f"{faults} values do not fit" not in text} == (
        set(said) if faults <= 100 else set()
    )


@pytest.mark.contract("P1.4")
def test_an_error_carries_the_findings_and_keeps_values_to_itself() -> None:
    pgq = PgQueue(DSN)

    @pgq.task
    async def work(number: int, secret: int) -> None: ...

    call: Any = work
    arguments = work.definition.arguments

    with pytest.raises(InvalidArgumentsError) as raised:
        arguments.encode((), call.s("x", secret="hunter2").kwargs, limit=LIMIT)

    assert {error["loc"][0] for error in raised.value.errors} == {"number", "secret"}
    assert "hunter2" not in str(raised.value)


@pytest.mark.contract("P1.4")
async def test_the_payload_limit_is_a_setting_and_counts_bytes(dsn: str, db: Connection) -> None:
    async with PgQueue(dsn, payload_limit=100) as pgq:

        @pgq.task
        async def work(text: str) -> None: ...

        overhead = len('{"text":""}')
        await work.enqueue("a" * (100 - overhead))

        with pytest.raises(PayloadTooLargeError, match="task 'work'") as raised:
            await work.enqueue("é" * ((100 - overhead) // 2 + 1))

    assert (raised.value.size, raised.value.limit) == (101, 100)
    assert await db.fetchval("select count(*) from pgqueue.job") == 1


async def test_a_backslash_before_u0000_is_not_a_nul(pgq: PgQueue) -> None:
    @pgq.task
    async def work(text: str) -> str:
        return text

    async with pgq.worker():
        job = await work.enqueue(r"\u0000 \\u0000")

        assert await job.result(timeout=60) == r"\u0000 \\u0000"


# What comes back


async def test_values_arrive_as_the_types_that_the_handler_names(pgq: PgQueue) -> None:
    seen: list[Any] = []

    @pgq.task
    async def work(
        model: Address,
        point: Point,
        when: datetime,
        day: date,
        span: timedelta,
        key: uuid.UUID,
        price: Decimal,
        colour: Colour,
        either: int | str,
        raw: bytes,
        pairs: dict[uuid.UUID, tuple[int, ...]],
        huge: float,
    ) -> tuple[Address, Point, Decimal, bytes]:
        seen.extend([model, point, when, day, span, key, price, colour, either, raw, pairs, huge])
        return model, point, price, raw

    key = uuid.uuid4()
    sent: list[Any] = [
        Address(street="Rue Été", moved_in=AWARE),
        Point(1.5, -2),
        AWARE,
        date(2024, 2, 29),
        timedelta(days=1, microseconds=7),
        key,
        Decimal("10.10"),
        Colour.BLUE,
        "7",
        b"\x00\xff\xfe",
        {key: (1, 2)},
        math.inf,
    ]
    call: Any = work

    async with pgq.worker():
        result = await (await call.enqueue(*sent)).result(timeout=60)

    assert seen == sent
    assert result == (sent[0], sent[1], Decimal("10.10"), b"\x00\xff\xfe")
    assert str(result[2]) == "10.10"


@given(json_values)
def test_any_json_value_comes_back_equal(value: Any) -> None:
    def work(value: Any) -> None: ...

    assert carried(work, value) == ((), {"value": value})


@given(st.integers() | storable_text)
def test_a_union_comes_back_as_the_member_that_it_was(value: int | str) -> None:
    def work(value: int | str) -> None: ...

    _, kwargs = carried(work, value)

    assert kwargs == {"value": value}
    assert type(kwargs["value"]) is type(value)


# Before 1973 there are offsets of odd seconds, which ISO 8601 does not know.
@given(st.datetimes(min_value=datetime(1973, 1, 1), timezones=st.timezones()))  # noqa: DTZ001
def test_an_aware_datetime_comes_back_as_the_same_moment(when: datetime) -> None:
    def work(when: datetime) -> None: ...

    _, kwargs = carried(work, when)

    assert kwargs["when"].timestamp() == when.timestamp()


@given(st.binary())
def test_bytes_come_back(raw: bytes) -> None:
    def work(raw: bytes) -> None: ...

    assert carried(work, raw) == ((), {"raw": raw})


def test_a_naive_datetime_is_taken_where_one_is_asked_for() -> None:
    def work(when: NaiveDatetime) -> None: ...

    assert carried(work, NAIVE) == ((), {"when": NAIVE})


@pytest.mark.parametrize(
    ("call", "received"),
    [
        (((1,), {}), ((1,), {"b": 2, "args": (), "c": 3, "extra": {}})),
        (((1, 5), {"c": 7}), ((1,), {"b": 5, "c": 7})),
    ],
)
def test_defaults_are_the_handlers_when_it_runs(call: Any, received: Any) -> None:
    def work(a: int, /, b: int = 2, *args: int, c: int = 3, **extra: int) -> Any:
        return (a, b, args, c, extra)

    args, kwargs = carried(work, *call[0], **call[1])

    assert work(*args, **kwargs) == work(*call[0], **call[1])


@given(
    a=st.integers(),
    rest=st.lists(st.integers(), max_size=4),
    c=st.integers() | st.none(),
    extra=st.dictionaries(st.sampled_from(["d", "e", "args"]), st.integers()),
)
def test_every_kind_of_parameter_is_carried(
    a: int, rest: list[int], c: int | None, extra: dict[str, int]
) -> None:
    def work(a: int, /, b: int = 2, *args: int, c: int = 3, **extra: int) -> Any:
        return (a, b, args, c, extra)

    named = {**extra, **({} if c is None else {"c": c})}

    args, kwargs = carried(work, a, *rest, **named)

    assert work(*args, **kwargs) == work(a, *rest, **named)


@pytest.mark.parametrize("call", [((1, 2), {}), ((1,), {"b": 2}), ((), {"a": 1, "b": 2})])
def test_a_call_by_name_is_the_same_call_where_the_handler_is(call: Any) -> None:
    def work(a: int, b: int) -> None: ...

    arguments = Arguments("work", work, context_type=JobContext)

    stored = encode_by_name("work", call[0], call[1], limit=LIMIT)

    assert arguments.decode(stored) == ((), {"a": 1, "b": 2})


async def test_a_context_parameter_is_the_workers_and_the_arguments_come_behind_it(pgq: PgQueue) -> None:
    @pgq.task
    async def first(ctx: JobContext, number: int) -> str:
        return f"{ctx.task} {number}"

    @pgq.task
    async def by_place(ctx: JobContext, number: int, /) -> str:
        return f"{ctx.task} {number}"

    @pgq.task
    def before_rest(ctx: JobContext[int], /, *numbers: int, **named: int) -> str:
        return f"{ctx.task} {numbers} {named}"

    async with pgq.worker():
        assert await (await first.enqueue(1)).result(timeout=60) == "first 1"
        assert await (await by_place.enqueue(2)).result(timeout=60) == "by_place 2"
        assert (
            await (await before_rest.enqueue(3, 4, a=5)).result(timeout=60) == "before_rest (3, 4) {'a': 5}"
        )


# Stored arguments that do not fit


@pytest.mark.parametrize(
    "stored",
    ['{"nmber": 1}', '{"number": "x"}', "{}", "[1, 2]", "[]", '{"*": 5}', '{"*": [1], "number": 2}', "[[]]"],
)
async def test_arguments_that_do_not_fit_fail_the_job_and_not_the_worker(
    pgq: PgQueue, db: Connection, stored: str
) -> None:
    @pgq.task
    async def work(number: int) -> int:
        return number

    inside.end_grace(pgq)
    async with pgq.worker():
        broken = await db.fetchval("select pgqueue.enqueue('work', $1::json)", stored)

        with pytest.raises(JobFailed, match="do not match the task") as raised:
            await pgq.handle(broken).result(timeout=60)
        assert raised.value.reason == "undecodable"
        assert await (await work.enqueue(1)).result(timeout=60) == 1
    assert (await pgq.get(broken)).attempt == 1


# Functions that cannot be tasks


def today() -> int:
    return 7


def no_json(value: Unstorable) -> None: ...


def two_contexts(one: JobContext, two: JobContext) -> None: ...


def second_context(number: int, ctx: JobContext) -> None: ...


def context_by_name(*, ctx: JobContext[int]) -> None: ...


def dependency_before_rest(day: int = Depends(today), *numbers: int) -> None: ...


def dependency_by_place(day: int = Depends(today), /) -> None: ...


def demanding(number: int) -> int:
    return number


def demanding_dependency(value: int = Depends(demanding)) -> None: ...


def default_that_does_not_fit(number: int = "x") -> None: ...  # type: ignore[assignment]  # the point


def unknown_name(value: NoSuchType) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # the point


def result_that_is_no_json() -> Unstorable:
    return Unstorable()


def no_result() -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (no_json, "parameter"),
        (two_contexts, "two JobContext parameters"),
        (second_context, "'ctx' takes the JobContext and must come first"),
        (context_by_name, "'ctx' takes the JobContext and must come first"),
        (dependency_before_rest, "declare its dependencies after it, keyword-only"),
        (dependency_by_place, "passed by name"),
        (demanding_dependency, "'demanding' has the parameter 'number'"),
        (default_that_does_not_fit, "default 'x' of parameter 'number'"),
        (unknown_name, "NoSuchType"),
        (result_that_is_no_json, "result"),
        (generator, "generator"),
        (async_generator, "generator"),
        (Address, "must be a function"),
        (7, "must be a function"),
    ],
)
def test_a_function_that_cannot_be_a_task_is_refused_when_declared(function: Any, said: str) -> None:
    pgq = PgQueue(DSN)

    with pytest.raises(InvalidTaskError, match=f"task 'work'.*{said}"):
        pgq.task(name="work")(function)

    assert pgq.registry.get("work") is None


def test_two_functions_cannot_have_one_name() -> None:
    pgq = PgQueue(DSN)
    pgq.task(name="work")(no_result)

    with pytest.raises(DuplicateTaskError, match=r"'work' is already declared by .*no_result"):
        pgq.task(name="work")(no_result)


async def test_annotated_constraints_hold_at_the_call(pgq: PgQueue) -> None:
    @pgq.task
    async def work(number: Annotated[int, Field(gt=0)], mode: Literal["a", "b"] = "a") -> None: ...

    call: Any = work

    with pytest.raises(InvalidArgumentsError, match="'number': Input should be greater than 0"):
        await work.enqueue(0)
    with pytest.raises(InvalidArgumentsError, match="'mode'"):
        await call.enqueue(1, mode="c")


async def test_a_task_called_directly_runs_here_and_now(pgq: PgQueue, db: Connection) -> None:
    @pgq.task
    async def work(number: int) -> int:
        return number

    assert await work(5) == 5
    assert await db.fetchval("select count(*) from pgqueue.job") == 0
