"""Once the server or its sessions are gone, a call succeeds or says that the database is unavailable."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import anyio
import asyncpg
import pytest
from kit import inside
from kit.servers import CrashableServer, crashable_server

from pgqueue import DatabaseUnavailableError, DeadLetterFilter, JobFilter, PgQueue, WorkflowBuilder, group
from pgqueue.errors import PgQueueError
from pgqueue.tasks.signature import Signature

pytestmark = pytest.mark.contract("W6")


def signature_of(pgq: PgQueue) -> Signature[Any]:
    return pgq.signature("task", options={"queue": uuid4().hex})


def graph_of(pgq: PgQueue) -> WorkflowBuilder:
    flow = pgq.workflow("flow")
    flow.add("a", signature_of(pgq))
    return flow


VALUES: Mapping[str, Callable[[PgQueue], Any]] = {
    "job_id": lambda _: uuid4(),
    "ids": lambda _: [uuid4()],
    "chosen": lambda _: JobFilter(task="none"),
    "verb": lambda _: "cancel",
    "wanted": lambda _: DeadLetterFilter(task="none"),
    "signature": signature_of,
    "signatures": lambda pgq: [signature_of(pgq), signature_of(pgq)],
    "task": lambda _: "task",
    "name": lambda _: "task",
    "priority": lambda _: 3,
    "source": lambda _: "source",
    "workflow_id": lambda _: uuid4(),
    "canvas": lambda pgq: group(signature_of(pgq), signature_of(pgq)),
    "dag": graph_of,
    "owner": lambda _: "ann",
    "queue": lambda _: uuid4().hex,
    "session": lambda _: uuid4().hex,
    "event_id": lambda _: uuid4().hex,
    "step": lambda _: "step",
    "key": lambda _: uuid4().hex,
    "weight": lambda _: 2.0,
}
"""Values for the parameters of the public methods, by name."""


OPTIONS: Mapping[str, dict[str, Any]] = {
    "configure_task": {"max_retries": 1},
    "set_limit": {"slots": 1},
    "set_ordered": {"on_dead": "skip"},
    "end_web_session": {"valid_until": time.time() + 3600},
    "enqueue_by_name": {"task": "task"},
    "pause": {"queue": "default"},
    "resume": {"queue": "default"},
}
"""What else a method has to be told."""


def calls() -> dict[str, Callable[[PgQueue], Awaitable[Any]]]:
    """All that a PgQueue can be asked to do, each as a call without effect on what others read."""
    found: dict[str, Callable[[PgQueue], Awaitable[Any]]] = {}
    for name, method in inspect.getmembers(PgQueue, inspect.isfunction):
        is_generator = inspect.isasyncgenfunction(method)
        if name.startswith("_") or name in ("open", "close"):
            continue
        if is_generator or inspect.iscoroutinefunction(method):
            found[name] = partial(call, name=name, is_generator=is_generator)
    return found


async def call(pgq: PgQueue, *, name: str, is_generator: bool) -> None:
    method = getattr(pgq, name)
    needed = [
        parameter
        for parameter in inspect.signature(method).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and (parameter.default is parameter.empty or parameter.name in ("chosen", "wanted"))
    ]
    options = {
        key: value for key, value in OPTIONS.get(name, {}).items() if key not in {p.name for p in needed}
    }
    answer = method(*(VALUES[parameter.name](pgq) for parameter in needed), **options)
    if is_generator:
        async for _ in answer:
            pass
    else:
        await answer


CALLS = calls()


def at_once(step: Callable[[], Awaitable[Any]]) -> None:
    """Do *step* without a turn of this thread's event loop: what a busy process sees."""
    thread = threading.Thread(target=lambda: asyncio.run(step()))  # type: ignore[arg-type]
    thread.start()
    thread.join()


async def answer_to(pgq: PgQueue, name: str) -> BaseException | None:
    """Make a call; return what it raises that it may not raise."""
    with anyio.fail_after(60):
        try:
            await CALLS[name](pgq)
        except PgQueueError:
            # That there is no such job, or that the database is unavailable.
            return None
        except Exception as error:
            return error
    return None


async def terminate_sessions(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )
    await connection.close()


def test_the_matrix_has_every_public_method() -> None:
    assert CALLS.keys() >= {
        "enqueue",
        "get",
        "jobs",
        "cancel_many",
        "redrive_many",
        "migrate",
        "wait",
        "measure",
    }


async def test_the_first_call_after_the_end_of_all_sessions_raises_nothing_of_the_driver(
    pgq: PgQueue, dsn: str
) -> None:
    wrong: dict[str, BaseException] = {}
    for name in CALLS:
        # There are sessions to lose, of the pool and of the writer.
        with suppress(DatabaseUnavailableError):
            await pgq.enqueue_by_name("task")
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(answer_to, pgq, "check")
        at_once(lambda: terminate_sessions(dsn))
        if error := await answer_to(pgq, name):
            wrong[name] = error

    assert wrong == {}


async def test_the_first_call_after_the_sockets_were_closed_raises_nothing_of_the_driver(
    pgq: PgQueue,
) -> None:
    wrong: dict[str, BaseException] = {}
    for name in CALLS:
        with suppress(DatabaseUnavailableError):
            await pgq.enqueue_by_name("task")
        inside.cut_sockets(pgq)
        if error := await answer_to(pgq, name):
            wrong[name] = error

    assert wrong == {}


@pytest.fixture(scope="module")
def restartable() -> Iterator[CrashableServer]:
    with crashable_server() as server:
        yield server


async def test_while_the_server_is_down_and_after_it_started_nothing_of_the_driver_is_raised(
    restartable: CrashableServer,
) -> None:
    await restartable.ensure_started()
    await PgQueue(restartable.dsn).migrate()
    wrong: dict[str, BaseException] = {}
    async with PgQueue(restartable.dsn) as pgq:
        inside.database(pgq).connect_timeout = 0.5
        await restartable.crash()
        # An awaited result is waited for until the database is back.
        for name in CALLS.keys() - {"wait"}:
            if error := await answer_to(pgq, name):
                wrong[f"{name}, down"] = error
        await restartable.start()
        inside.database(pgq).connect_timeout = 30.0
        for name in CALLS:
            if error := await answer_to(pgq, name):
                wrong[f"{name}, up"] = error

    assert wrong == {}
