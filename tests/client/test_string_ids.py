"""An id is a UUID or its string, wherever one is taken; anything else is refused at the call."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from kit.command_line import Cli

import pgqueue
from pgqueue import InvalidIdError, InvalidOptionError, JobNotFoundError, JobStatus, PgQueue
from pgqueue.blocking import BlockingPgQueue
from pgqueue.options.declared import CallOptions

pytestmark = pytest.mark.contract("W24")

OTHERS: dict[str, Any] = {"priority": 3, "verb": "cancel", "name": "approved", "step": "charge"}
"""What other arguments these methods need."""
MALFORMED: list[Any] = ["", "x", "01890a5d-ac96-774b-bcce-b302099a805", 7, None, b"x", "\ud800", ["a"]]


def mentions_id(hint: Any) -> bool:
    return hint is UUID or any(mentions_id(each) for each in typing.get_args(hint))


def takers() -> Iterator[tuple[type, str, str, Any]]:
    """Yield each public method that takes an id: its class, its name, the parameter and its annotation."""
    for kind in (PgQueue, BlockingPgQueue, *(getattr(pgqueue, name) for name in pgqueue.__all__)):
        if not inspect.isclass(kind) or issubclass(kind, BaseException) or kind is pgqueue.JobContext:
            continue
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if name.startswith("_"):
                continue
            space = {**vars(inspect.getmodule(method)), **vars(typing)}
            parameters = inspect.signature(method).parameters
            for parameter in parameters.values():
                if "UUID" in str(parameter.annotation):
                    hint = eval(str(parameter.annotation), {**space, "UUID": UUID})
                    yield kind, name, parameter.name, hint


TAKERS = sorted({(kind, name, parameter) for kind, name, parameter, _ in takers()}, key=str)


def test_there_are_methods_that_take_ids() -> None:
    assert {name for kind, name, _ in TAKERS if kind is PgQueue} >= {
        "get",
        "get_many",
        "handle",
        "cancel",
        "requeue",
        "redrive",
        "discard",
        "reprioritise",
        "attempts",
        "actions",
        "wait",
        "watch",
        "dead_letter",
        "redrive_handle",
    }


@pytest.mark.parametrize("taker", list(takers()), ids=lambda taker: f"{taker[0].__name__}.{taker[1]}")
def test_every_id_may_be_a_string(taker: tuple[type, str, str, Any]) -> None:
    *_, hint = taker

    def takes_text(hint: Any) -> bool:
        args = typing.get_args(hint)
        return (UUID in args and str in args) or any(map(takes_text, args))

    assert takes_text(hint)


async def outcome(call: Callable[[], Any]) -> tuple[type, str]:
    """Return what came of a call: its answer, or its error."""
    try:
        answer = call()
        if inspect.isasyncgen(answer):
            answer = await anext(answer)
        elif inspect.isawaitable(answer):
            answer = await answer
    except Exception as error:
        return type(error), str(error)
    return type(answer), ""


ON_PGQ = [(name, parameter) for kind, name, parameter in TAKERS if kind is PgQueue]


@pytest.mark.parametrize(("name", "parameter"), ON_PGQ)
async def test_a_string_means_the_same_as_the_id(pgq: PgQueue, name: str, parameter: str) -> None:
    method = getattr(pgq, name)
    needed = {each: OTHERS[each] for each in inspect.signature(method).parameters if each in OTHERS}

    def call(given: Any) -> Callable[[], Any]:
        return lambda: method(**{parameter: [given] if parameter == "ids" else given}, **needed)

    def work() -> Any:
        return pgq.enqueue_by_name("work")

    one, other = await work(), await work()
    if name == "wait":
        await one.cancel()
        await other.cancel()
    by_id, by_text = await outcome(call(one.id)), await outcome(call(str(other.id).upper()))

    assert by_id[0] is by_text[0]
    assert by_id[0] is not InvalidIdError
    assert by_text[1] == by_id[1].replace(str(one.id), str(other.id))


@pytest.mark.parametrize("given", MALFORMED, ids=repr)
@pytest.mark.parametrize(("name", "parameter"), ON_PGQ)
async def test_what_is_no_id_is_refused(pgq: PgQueue, name: str, parameter: str, given: Any) -> None:
    method = getattr(pgq, name)
    needed = {each: OTHERS[each] for each in inspect.signature(method).parameters if each in OTHERS}

    kind, said = await outcome(
        lambda: method(**{parameter: [given] if parameter == "ids" else given}, **needed)
    )

    assert kind is InvalidIdError
    assert said.startswith("an id must be a UUID or its string, got ")


async def test_a_handle_of_a_string_does_all_that_a_handle_does(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> int:
        return 5

    job = await work.enqueue()
    handle = pgq.handle(str(job.id))
    async with pgq.worker():
        assert await handle.result(timeout=60) == 5

    assert handle.id == job.id
    assert await handle.status() is JobStatus.SUCCEEDED
    assert await handle.cancel() is False
    assert list(await pgq.get_many([str(job.id), str(uuid4())])) == [job.id]


async def test_a_chosen_id_may_be_a_string(pgq: PgQueue) -> None:
    @pgq.task
    async def work() -> None: ...

    chosen = uuid4()
    options: CallOptions = {"id": str(chosen)}
    job = await work.options(**options).enqueue()
    [again] = await pgq.enqueue_many([work.options(id=chosen).s()])

    assert (job.id, again.created) == (chosen, False)
    with pytest.raises(InvalidOptionError, match="'id' must be a UUID or its string, got 'x'"):
        work.options(id="x")


def test_a_blocking_client_takes_strings(dsn: str) -> None:
    with BlockingPgQueue(PgQueue(dsn)) as pgq:
        job = pgq.enqueue_by_name("work")

        assert pgq.get(str(job.id)).id == job.id
        assert pgq.handle(str(job.id)).cancel() is True
        with pytest.raises(InvalidIdError):
            pgq.get("x")
        with pytest.raises(JobNotFoundError):
            pgq.get(str(uuid4()))


async def test_the_command_line_takes_strings_and_refuses_others(pgq: PgQueue, dsn: str) -> None:
    job = await pgq.enqueue_by_name("work")
    cli = Cli(dsn)

    assert (await cli.json("job", str(job.id).upper()))["job_id"] == str(job.id)
    code, _, _ = await cli("job", "x")
    assert code == 2
