"""What Django promises of a backend of its Tasks framework, and what pgqueue promises besides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from anyio.from_thread import start_blocking_portal
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.transaction import TransactionManagementError
from django.test import Client, override_settings
from django.utils import timezone

from kit.django_site.shop import tasks
from kit.django_site.shop.models import Order
from pgqueue import FROM_ARGUMENTS, Middleware, PgQueue, chain
from pgqueue.blocking import BlockingPgQueue
from pgqueue.database.sql import load_roles
from pgqueue.errors import (
    InvalidArgumentsError,
    InvalidOptionError,
    JobFailed,
    PayloadTooLargeError,
    PgQueueError,
    QueueFullError,
    SchemaError,
    UnknownConnectionError,
    UnusableConnectionError,
)
from pgqueue.events import JobsEnqueued
from pgqueue.integrations.django import PgQueueBackend, queue
from pgqueue.integrations.django.framework import (
    InvalidTask,
    InvalidTaskBackend,
    TaskResultDoesNotExist,
    TaskResultMismatch,
    TaskResultStatus,
    signals,
    task_backends,
)
from pgqueue.integrations.django.settings import dsn_of

BACKEND = "pgqueue.integrations.django.PgQueueBackend"


@contextlib.contextmanager
def raises(kind: type[BaseException] | tuple[type[BaseException], ...], text: str = "") -> Iterator[None]:
    """Fail unless the block raises an error that says so."""
    raised: BaseException | None = None
    try:
        yield
    except kind as error:
        raised = error
    assert raised is not None, f"it did not raise {kind}"
    assert text in str(raised), str(raised)


@contextlib.contextmanager
def working(alias: str = "default", **options: Any) -> Iterator[None]:
    """Run a worker beside this thread."""
    pgq = queue(alias)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(pgq),
        portal.wrap_async_context_manager(worker_of(pgq, options)),
    ):
        yield


@contextlib.asynccontextmanager
async def worker_of(pgq: PgQueue, options: dict[str, Any]) -> AsyncIterator[None]:
    """Run a worker, made in the event loop that it works in."""
    async with pgq.worker(**options):
        yield


def ended(*results: Any) -> None:
    """Refresh results until all of them have ended."""
    until = time.monotonic() + 60
    for result in results:
        while not result.is_finished:
            assert time.monotonic() < until, result
            time.sleep(0.01)
            result.refresh()


def jobs() -> int:
    """Return how many jobs there are."""
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from pgqueue.job")
        return int(cursor.fetchone()[0])


@contextlib.contextmanager
def told(*kinds: Any) -> Iterator[list[tuple[Any, str, str]]]:
    """Collect what signals say."""
    heard: list[tuple[Any, str, str]] = []
    received = []
    for kind in kinds:

        def receive(sender: Any, task_result: Any, kind: Any = kind, **_: Any) -> None:
            heard.append((kind, task_result.id, str(task_result.status)))

        kind.connect(receive)
        received.append((kind, receive))
    try:
        yield heard
    finally:
        for kind, receive in received:
            kind.disconnect(receive)


def test_the_backend_says_what_it_can_do() -> None:
    backend = task_backends()["default"]

    assert isinstance(backend, PgQueueBackend)
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority
    assert backend.queues == {"default", "mail"}


def test_a_task_that_is_enqueued_is_ready_and_its_result_can_be_read() -> None:
    with told(signals.task_enqueued) as heard:
        result = tasks.add.using(priority=7, queue_name="mail").enqueue(1, b=2)
    found = tasks.add.get_result(result.id)

    assert found == result
    assert UUID(result.id).version == 7
    assert result.status == TaskResultStatus.READY
    assert not result.is_finished
    assert (result.args, result.kwargs, result.backend) == ([1], {"b": 2}, "default")
    assert (result.task.priority, result.task.queue_name) == (7, "mail")
    assert result.enqueued_at is not None
    assert (result.enqueued_at.tzinfo is not None) == settings.USE_TZ
    assert abs(timezone.now() - result.enqueued_at) < timedelta(minutes=1)
    assert (result.started_at, result.finished_at, result.last_attempted_at) == (None, None, None)
    assert (result.errors, result.worker_ids, result.attempts) == ([], [], 0)
    with raises(ValueError, "has not finished yet"):
        _ = result.return_value
    assert heard == [(signals.task_enqueued, result.id, "READY")]


def test_so_it_is_with_asyncio() -> None:
    async def enqueue() -> tuple[Any, Any, Any]:
        result = await tasks.add_async.aenqueue(1, b=2)
        found = await tasks.add_async.aget_result(result.id)
        with raises(TaskResultDoesNotExist):
            await tasks.add_async.aget_result(str(uuid4()))
        with raises(TaskResultMismatch):
            await tasks.add.aget_result(result.id)
        await found.arefresh()
        return result, found, await task_backends()["default"].aget_result(result.id)

    result, found, again = async_to_sync(enqueue)()

    assert result == found == again
    with working():
        ended(result)
    assert result.return_value == 3


def test_results_that_are_not_there_are_told_as_django_does() -> None:
    backend = task_backends()["default"]
    with connection.cursor() as cursor:
        cursor.execute("select pgqueue.enqueue('of pgqueue''s own')")
        [[foreign]] = cursor.fetchall()
        cursor.execute(
            'select pgqueue.enqueue(%s, \'{"args": [], "kwargs": {}}\')', ["kit.django_site.nowhere.task"]
        )
        [[unknown]] = cursor.fetchall()

    for strange in ("123", 123, str(uuid4()), str(foreign), str(unknown)):
        with raises(TaskResultDoesNotExist):
            backend.get_result(strange)
    with raises(TaskResultMismatch):
        tasks.fail.get_result(tasks.add.enqueue(1).id)


def test_a_job_exists_if_and_only_if_the_transaction_commits() -> None:
    before = jobs()
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        lost = tasks.add.enqueue(1)
        assert tasks.add.get_result(lost.id) == lost
        raise ZeroDivisionError
    with transaction.atomic():
        kept = tasks.add.enqueue(2)
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            inner = tasks.add.enqueue(3)
            raise ZeroDivisionError
        Order.objects.create(number=7)
        with raises(ValueError):
            tasks.add.enqueue(float("nan"))
        with raises(PayloadTooLargeError, "the limit is 1,048,576"):
            tasks.add.enqueue("x" * 2_000_000)
        with raises(InvalidOptionError, "queue"):
            tasks.add.using(backend="any", queue_name="x" * 201).enqueue(1)
        # A write that failed leaves the transaction whole.
        Order.objects.create(number=8)

    assert jobs() == before + 1
    assert tasks.add.get_result(kept.id).args == [2]
    assert Order.objects.filter(number__in=[7, 8]).count() == 2
    for result in (lost, inner):
        with raises(TaskResultDoesNotExist):
            tasks.add.get_result(result.id)


def test_so_it_is_for_what_pgqueue_has_besides() -> None:
    pgq = PgQueue(dsn_of("default"))

    @pgq.task
    def work(number: int) -> int:
        return number

    before = jobs()
    with BlockingPgQueue(pgq) as blocking:
        for given in (connection, connections["default"]):
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                blocking.enqueue(work.s(1), connection=given)
                blocking.enqueue(chain(work.s(1), work.s()), connection=given)
                assert jobs() > before
                raise ZeroDivisionError
            assert jobs() == before
            with transaction.atomic():
                kept = blocking.enqueue(work.s(2).set(idempotency_key=str(id(given))), connection=given)
                with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                    blocking.enqueue_many([work.s(3), work.s(4)], connection=given)
                    raise ZeroDivisionError
            before += 1
            assert (jobs(), kept.status().value) == (before, "pending")
            with raises(UnusableConnectionError, "autocommit=True"):
                blocking.enqueue(work.s(5), connection=given)
            blocking.enqueue(work.s(6), connection=given, autocommit=True)
            before += 1
            assert jobs() == before
        with raises(TransactionManagementError), transaction.atomic():
            transaction.set_rollback(True)
            blocking.enqueue(work.s(7), connection=connection)
        with raises(UnknownConnectionError, "leads to sqlite"):
            blocking.enqueue(work.s(8), connection=connections["elsewhere"])

    async def from_asyncio() -> None:
        async with pgq:
            with raises(UnknownConnectionError, "synchronous and works with pgqueue.blocking only"):
                given: Any = connection
                await pgq.enqueue(work.s(9), connection=given)

    asyncio.run(from_asyncio())
    assert jobs() == before


def test_no_worker_runs_a_task_before_its_transaction_commits() -> None:
    with working():
        with transaction.atomic():
            result = tasks.count_orders.enqueue()
            Order.objects.create(number=1)
            time.sleep(0.2)
            result.refresh()
            assert result.status == TaskResultStatus.READY
            orders = Order.objects.count()
        ended(result)

    assert result.return_value == orders


def test_tasks_run_and_their_results_say_so() -> None:
    before = timezone.now() - timedelta(seconds=1)
    results = [
        tasks.add.enqueue(1, 2),
        tasks.add_async.enqueue(a=1, b=2),
        tasks.count_orders.enqueue(),
        tasks.count_orders_async.enqueue(),
    ]
    with told(signals.task_started, signals.task_finished) as heard, working():
        ended(*results)
        orders = Order.objects.count()

    assert [each.return_value for each in results] == [3, 3, orders, orders]
    for result in results:
        assert result.status == TaskResultStatus.SUCCESSFUL
        assert result.errors == []
        assert result.attempts == len(result.worker_ids) == 1
        assert result.worker_ids[0]
        assert before < result.enqueued_at <= result.started_at <= result.finished_at
        assert result.last_attempted_at == result.started_at
        assert [(kind, status) for kind, job, status in heard if job == result.id] == [
            (signals.task_started, "RUNNING"),
            (signals.task_finished, "SUCCESSFUL"),
        ]


def test_a_task_that_takes_its_context_is_given_it() -> None:
    result = tasks.describe.enqueue(1, [2, None], three={"x": 3.5})
    other = tasks.describe_async.enqueue("word")
    with working():
        ended(result, other)

    assert result.errors == []
    said = result.return_value
    assert said.pop("enqueued_at") == result.enqueued_at.timestamp()
    assert said == {
        "attempt": 1,
        "id": result.id,
        "status": "RUNNING",
        "args": [1, [2, None]],
        "kwargs": {"three": {"x": 3.5}},
        "queue": "mail",
        "backend": "default",
        "workers": 1,
        "given": [[1, [2, None]], {"three": {"x": 3.5}}],
        "is_aware": settings.USE_TZ,
    }
    assert other.return_value == [1, "word"]


def test_a_task_that_fails_has_failed_at_once_and_says_why() -> None:
    failing: list[tuple[Any, type[BaseException], str]] = [
        (tasks.fail.enqueue("no such order"), tasks.ShopError, "no such order"),
        (tasks.fail_async.enqueue("nor this\none"), ValueError, "nor this\none"),
        (tasks.leave.enqueue(), SystemExit, "this is the end"),
        (tasks.interrupt.enqueue(), KeyboardInterrupt, "from within"),
        (tasks.return_a_set.enqueue(), TypeError, "Unsupported type"),
    ]
    seen: list[tuple[str, str | None]] = []

    def receive(sender: Any, task_result: Any, **_: Any) -> None:
        import sys

        error = sys.exc_info()[1]
        seen.append((task_result.id, None if error is None else str(error)))

    signals.task_finished.connect(receive)
    try:
        with working():
            ended(*(each[0] for each in failing))
    finally:
        signals.task_finished.disconnect(receive)

    for result, kind, message in failing:
        assert result.status == TaskResultStatus.FAILED
        assert result.is_finished
        assert result.attempts == len(result.worker_ids) == 1
        assert result.enqueued_at <= result.started_at <= result.finished_at
        with raises(ValueError, "Task failed"):
            _ = result.return_value
        [error] = result.errors
        assert error.exception_class is kind, error
        assert message in error.traceback
        [(_, said)] = [each for each in seen if each[0] == result.id]
        assert message in str(said)


def test_a_task_with_options_of_pgqueue_is_retried() -> None:
    if tasks.fail_twice is None:
        return
    result = tasks.fail_twice.enqueue()
    with told(signals.task_started, signals.task_finished) as heard, working():
        ended(result)

    assert result.return_value == 3
    assert [error.exception_class for error in result.errors] == [tasks.ShopError] * 2
    assert result.attempts == 3
    assert [kind for kind, *_ in heard] == [*[signals.task_started] * 3, signals.task_finished]
    assert result.started_at < result.last_attempted_at


def test_a_task_runs_in_a_process_that_can_be_killed() -> None:
    if tasks.count_in_a_child is None:
        return
    counted, awaited = tasks.count_in_a_child.enqueue(7), tasks.count_in_a_child_async.enqueue(8)
    raised, killed, late = (
        each.enqueue() for each in (tasks.fail_in_a_child, tasks.kill_its_process, tasks.wait_in_a_child)
    )
    with told(signals.task_finished) as heard, working():
        ended(counted, awaited, raised, killed, late)
    orders = Order.objects.count()

    assert counted.return_value[1:] == [7, orders], counted
    assert awaited.return_value[1:] == [8, orders, 1], awaited
    assert os.getpid() not in {counted.return_value[0], awaited.return_value[0]}
    failed = [raised, killed, late]
    kinds = [each.errors[0].exception_class for each in failed]
    assert kinds == [tasks.ShopError, JobFailed, TimeoutError]
    # The receivers of what runs elsewhere are there; a failure is told of where it is known.
    assert {job for _, job, _ in heard} == {each.id for each in failed}
    with raises(InvalidTask, "isolation must be 'thread' or 'process', got 'fork'"):
        replace(tasks.count_in_a_child, options={"isolation": "fork"})


def test_one_function_is_one_task_of_pgqueue_with_one_set_of_options() -> None:
    result = tasks.double.enqueue(4)
    assert tasks.double.get_result(result.id) == result
    with working():
        ended(result)
    assert result.return_value == 8
    if tasks.fail_twice is not None:
        with raises(InvalidTask, "_double' has other options already"):
            tasks.task(options={"max_retries": 3})(tasks.double.func)


def test_a_task_knows_as_what_it_was_enqueued() -> None:
    moved = tasks.describe_task.using(queue_name="mail", priority=-9).enqueue()
    other = tasks.describe_task.using(backend="any", queue_name="elsewhere").enqueue()
    with working():
        ended(moved)
    with working("any", queues=["elsewhere"]):
        ended(other)

    statuses = ["RUNNING", "RUNNING"]
    assert moved.return_value == {
        "queue": "mail",
        "priority": -9,
        "backend": "default",
        "statuses": statuses,
    }
    assert other.return_value == {
        "queue": "elsewhere",
        "priority": 0,
        "backend": "any",
        "statuses": statuses,
    }


def test_tasks_cross_from_threads_to_coroutines_and_back() -> None:
    results = [tasks.count_orders_by_the_event_loop.enqueue(), tasks.count_orders_by_a_thread.enqueue()]
    with working():
        ended(*results)
    orders = Order.objects.count()

    assert [each.errors for each in results] == [[], []]
    # A function in a thread, and what it calls, see the transaction that it is in.
    assert [each.return_value for each in results] == [orders, [orders + 1, orders + 1, orders]]


def test_signals_come_from_the_class_of_the_backend() -> None:
    heard: list[Any] = []

    def receive(sender: Any, task_result: Any, **_: Any) -> None:
        heard.append((sender, task_result.id))

    kinds = (signals.task_enqueued, signals.task_started, signals.task_finished)
    for kind in kinds:
        kind.connect(receive, sender=PgQueueBackend)
    try:
        results = [tasks.add.enqueue(1), tasks.add_async.enqueue(1), tasks.fail.enqueue("no")]
        with working():
            ended(*results)
            # That of a failure is sent behind its commit.
            until = time.monotonic() + 60
            while len(heard) < 9 and time.monotonic() < until:
                time.sleep(0.01)
    finally:
        for kind in kinds:
            kind.disconnect(receive, sender=PgQueueBackend)

    assert sorted(heard, key=str) == sorted([(PgQueueBackend, each.id) for each in results] * 3, key=str)


def test_what_is_written_with_a_job_is_as_its_task_and_the_backend_say() -> None:
    if tasks.with_options is None:
        return
    result = tasks.with_options.enqueue()
    soon = timezone.now() + timedelta(seconds=30)
    sooner = tasks.with_options.using(run_after=soon).enqueue()

    with connection.cursor() as cursor:
        cursor.execute(
            "select tags, extract(epoch from expires_at - created_at),"
            " extract(epoch from run_at - created_at)"
            " from pgqueue.job where id = any(%s::uuid[]) order by id",
            [[result.id, sooner.id]],
        )
        first, second = cursor.fetchall()
    assert [list(first[0]), float(first[1]), float(first[2])] == [["nightly"], 3600, 60]
    assert float(second[2]) < 31


def stored(result: Any) -> tuple[str, Any]:
    """Return the status of a job, and its headers."""
    with connection.cursor() as cursor:
        cursor.execute("select status::text, headers from pgqueue.jobs where id = %s", [result.id])
        status, headers = cursor.fetchone()
    return status, json.loads(headers) if isinstance(headers, str) else headers


@contextlib.contextmanager
def backend_of_its_own(**options: Any) -> Iterator[Any]:
    """Have one backend, which nothing was declared for: with these options."""
    # Some option has to differ: backends with the same share their PgQueue.
    options = {"version": str(uuid4()), **options}
    backends = {"default": {"BACKEND": BACKEND, "QUEUES": [], "OPTIONS": options}}
    with override_settings(TASKS=backends):
        yield queue()


async def later(account: int, size: int) -> int:
    return account


def test_limits_and_ordered_groups_hold_for_jobs_that_django_enqueues() -> None:
    with backend_of_its_own() as pgq:
        pgq.queue("narrow", slots=1)
        narrow = [tasks.add.using(queue_name="narrow").enqueue(each) for each in range(3)]
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            tasks.add.using(queue_name="narrow").enqueue(1)
            raise ZeroDivisionError
        others = []
        if tasks.limited is not None and tasks.in_line is not None:
            others += [tasks.limited.enqueue(1), tasks.limited.enqueue(account=2)]
            with transaction.atomic():
                others += [tasks.in_line.enqueue(7, size=3), tasks.in_line.enqueue(size=3, account=7)]
                others += [tasks.in_line.enqueue(7)]
            with raises(InvalidTask, "the key 'nobody' is no argument of it (it has: account, size)"):
                replace(tasks.in_line, options={"ordered_by": "nobody"})
            with raises(InvalidTask, "that is not async"):
                replace(tasks.in_line, options={"ordered_by": later})
        results = [*narrow, *others]
        before = {stored(each)[0] for each in results}
        with connection.cursor() as cursor:
            cursor.execute(
                "select gates::text from pgqueue.job where id = any(%s::uuid[]) order by id",
                [[each.id for each in results]],
            )
            gates = [gate for [gate] in cursor.fetchall()]
        with working(queues=["default", "narrow"]):
            ended(*results)

    assert before == {"blocked"}
    assert gates[:3] == ['{queue/narrow,""}'] * 3
    if others:
        line = "{order/kit.django_site.shop.tasks.in_line,"
        assert gates[3:] == [*("{one,1}", "{one,2}", f"{line}7/3}}", f"{line}7/3}}", f"{line}7/1}}")], gates
    assert {each.status for each in results} == {TaskResultStatus.SUCCESSFUL}


def test_a_full_queue_refuses_what_django_enqueues() -> None:
    with backend_of_its_own() as pgq:
        pgq.queue("short", max_depth=2)
        task = tasks.add.using(queue_name="short")
        kept = [task.enqueue(1), task.enqueue(2)]
        with raises(QueueFullError, "short"), transaction.atomic():
            task.enqueue(3)
        before = jobs()
        with transaction.atomic():
            Order.objects.create(number=9)
            with raises(QueueFullError, "short"):
                task.enqueue(4)
            tasks.add.enqueue(5)

    assert jobs() == before + 1
    assert [stored(each)[0] for each in kept] == ["pending", "pending"]


def test_middleware_and_options_of_all_tasks_are_for_what_django_enqueues() -> None:
    class Tracing(Middleware):
        async def enqueue(self, calls: Any, proceed: Any) -> Any:
            # A middleware may wait: for a token, say.
            await asyncio.sleep(0)
            return await proceed(call.with_headers({"trace": "t-1"}) for call in calls)

    with backend_of_its_own(headers={"tenant": "a"}, expires=3600, tags=["all"]) as pgq:
        pgq.middleware(Tracing())
        heard: list[JobsEnqueued] = []
        pgq.observe(heard.append, JobsEnqueued)
        result = tasks.add.enqueue(1, 2)
        from_asyncio = async_to_sync(tasks.add_async.aenqueue)(3)

        class Refusing(Middleware):
            async def enqueue(self, calls: Any, proceed: Any) -> Any:
                raise PermissionError("not today")

        pgq.middleware(Refusing())
        before = jobs()
        with raises(PermissionError, "not today"):
            tasks.add.enqueue(1)
        assert jobs() == before

    for each in (result, from_asyncio):
        assert stored(each)[1] == {"tenant": "a", "trace": "t-1"}
    assert [event.is_committed for event in heard] == [False, False]
    with connection.cursor() as cursor:
        cursor.execute("select tags, expires_at is not null from pgqueue.job where id = %s", [result.id])
        tags, expires = cursor.fetchone()
    assert (list(tags), expires) == (["all"], True)


def test_a_task_enqueued_twice_with_one_key_is_one_job() -> None:
    with backend_of_its_own(idempotency_key=FROM_ARGUMENTS):
        with told(signals.task_enqueued) as heard:
            first, again, other = tasks.add.enqueue(11, 1), tasks.add.enqueue(11, b=1), tasks.add.enqueue(12)
            same = tasks.add.enqueue(11, 1)
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            assert tasks.add.enqueue(11, 1) == first
            raise ZeroDivisionError

    # By the arguments as they are written: Django keeps apart those by position and by name.
    assert first == same
    assert len({first.id, again.id, other.id}) == 3
    assert [each[1] for each in heard] == [first.id, again.id, other.id]


def test_enqueueing_leaves_no_connection_no_thread_and_no_event_loop_so_processes_may_fork() -> None:
    with backend_of_its_own(tags=["forked"]) as pgq:
        pgq.limit("django-forked", slots=3)
        pgq.queue("forked", slots=5, max_depth=1000)
        task = tasks.add.using(queue_name="forked")
        threads = set(threading.enumerate())
        task.enqueue(1)
        assert set(threading.enumerate()) <= threads
        with raises(RuntimeError):
            asyncio.get_running_loop()
        connections.close_all()
        child = os.fork()
        if child == 0:
            try:
                task.enqueue(2)
                connections.close_all()
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    with connection.cursor() as cursor:
        cursor.execute("select count(*) from pgqueue.jobs where queue = 'forked'")
        assert cursor.fetchone() == (2,)
        # A connection that was closed is gone a moment later.
        until = time.monotonic() + 60
        others = None
        while others != 0 and time.monotonic() < until:
            cursor.execute(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and backend_type = 'client backend'"
            )
            [others] = cursor.fetchone()
    assert others == 0


def test_code_of_an_event_loop_is_refused_as_django_does() -> None:
    async def enqueue() -> Any:
        with raises(SynchronousOnlyOperation):
            tasks.add.enqueue(1)
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
        try:
            return tasks.add.enqueue(21)
        finally:
            connection.close()
            del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]

    before = jobs()
    result = asyncio.run(enqueue())
    assert (jobs(), stored(result)[0]) == (before + 1, "pending")


def test_each_backend_enqueues_in_its_own_database() -> None:
    name = f"{connection.settings_dict['NAME']}_second"
    with connection.cursor() as cursor:
        cursor.execute(f'create database "{name}"')
    connections.databases["second"] = {**connections.databases["default"], "NAME": name}
    backends = {
        alias: {"BACKEND": BACKEND, "OPTIONS": {"database": alias}} for alias in ("default", "second")
    }
    try:
        with override_settings(TASKS=backends):
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123
                call_command("pgqueue_migrate", backend="second", stdout=nowhere)
            there, before = tasks.add.using(backend="second"), jobs()
            with (
                transaction.atomic(using="second"),
                contextlib.suppress(ZeroDivisionError),
                transaction.atomic(using="second"),
            ):
                lost = there.enqueue(1)
                raise ZeroDivisionError
            with contextlib.suppress(ZeroDivisionError), transaction.atomic():
                kept = there.enqueue(2)
                raise ZeroDivisionError
            assert (there.get_result(kept.id).args, jobs()) == ([2], before)
            with raises(TaskResultDoesNotExist):
                there.get_result(lost.id)
            with working("second"):
                ended(kept)
            assert kept.return_value == 2
    finally:
        connections["second"].close()
        del connections["second"], connections.databases["second"]
        with connection.cursor() as cursor:
            cursor.execute(f'drop database "{name}" with (force)')


def test_a_role_that_may_only_enqueue_enqueues() -> None:
    prefix = f"t{uuid4().hex[:12]}"
    with connection.cursor() as cursor:
        cursor.execute(load_roles("pgqueue", prefix))
        try:
            with backend_of_its_own(tags=["by its role"], max_depth=100000):
                cursor.execute(f"set role {prefix}_enqueue")
                with transaction.atomic():
                    first = tasks.add.enqueue(1)
                second = tasks.add.using(priority=3).enqueue(2)
                cursor.execute("reset role")
            assert [stored(each)[0] for each in (first, second)] == ["pending", "pending"]
        finally:
            cursor.execute("reset role")
            for kind in ("enqueue", "receive", "worker", "read"):
                cursor.execute(f"drop owned by {prefix}_{kind}; drop role {prefix}_{kind}")


def test_async_tasks_run_in_a_worker_that_async_to_sync_has_started() -> None:
    added, counted = tasks.add_async.enqueue(1, 2), tasks.count_orders_async.enqueue()
    failed, plain = tasks.fail_async.enqueue("no"), tasks.count_orders.enqueue()
    results = [added, counted, failed, plain]

    async def work() -> None:
        async with queue() as pgq, pgq.worker(), asyncio.timeout(30):
            while not all(each.is_finished for each in results):
                await asyncio.sleep(0.01)
                for each in results:
                    await each.arefresh()

    async_to_sync(work)()
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    assert added.return_value == 3
    assert counted.return_value == plain.return_value == Order.objects.count()
    assert [error.exception_class for error in failed.errors] == [ValueError]


def test_a_task_starts_no_earlier_than_run_after_and_the_most_urgent_first() -> None:
    soon = timezone.now() + timedelta(seconds=1)
    later = tasks.add.using(run_after=soon).enqueue(1)
    low, high = tasks.add.using(priority=-100).enqueue(1), tasks.add.using(priority=100).enqueue(1)
    found = tasks.add.get_result(later.id)
    with working(concurrency=1):
        ended(later, low, high)

    assert found == tasks.add.get_result(found.id) or found.status == TaskResultStatus.READY
    assert found.task.run_after == soon
    assert later.started_at >= soon
    assert high.started_at < low.started_at
    assert (low.task.priority, high.task.priority) == (-100, 100)


def test_what_is_invalid_is_refused_as_django_does_and_writes_nothing() -> None:
    before = jobs()

    refused: list[tuple[dict[str, Any], str]] = [
        ({"priority": 101}, "priority must be a whole number"),
        ({"queue_name": "nowhere"}, "Queue 'nowhere' is not valid for backend"),
    ]
    if settings.USE_TZ:
        refused.append(({"run_after": timezone.now().replace(tzinfo=None)}, "aware"))
    for changes, text in refused:
        with raises(InvalidTask, text):
            tasks.add.using(**changes)
    for argument in (object(), {1, 2}, b"\xff", timezone.now(), float("inf"), "\ud800"):
        with raises((TypeError, ValueError)):
            tasks.add.enqueue(argument)
    with raises(InvalidArgumentsError, "NUL"):
        tasks.add.enqueue(b="\0")
    with raises(InvalidTask, "module level"):
        replace(tasks.add, func=lambda: None)
    if hasattr(tasks.add, "options"):
        with raises(InvalidTask, "max_retries"):
            replace(tasks.add, options={"max_retries": "three"})

    assert jobs() == before


def test_a_task_is_a_value_as_django_has_it() -> None:
    now = timezone.now()
    changed = tasks.add.using(run_after=now)
    both = changed.using(priority=10)

    assert tasks.add.using() == tasks.add
    assert tasks.add.using() is not tasks.add
    assert (changed.priority, both.priority, both.run_after) == (0, 10, now)
    assert {tasks.add: 1}[tasks.add.using()] == 1
    assert (tasks.add.name, tasks.add.module_path) == ("add", "kit.django_site.shop.tasks.add")
    assert (tasks.add.call(1, 2), tasks.add_async.call(1, 2)) == (3, 3)
    assert async_to_sync(tasks.add.acall)(1, 2) == async_to_sync(tasks.add_async.acall)(1, 2) == 3
    assert tasks.add.get_backend() is task_backends()["default"]
    if hasattr(tasks.add, "_reconstruct"):  # from Django 6.1 on
        assert pickle.loads(pickle.dumps(both)) == both
        result = tasks.add.enqueue(1)
        assert pickle.loads(pickle.dumps(result)) == result
    for refused in (any, Client().get):
        with raises(InvalidTask, "module level"):
            tasks.task()(refused)
    with raises(InvalidTask, "first argument of 'context'"):
        tasks.task(takes_context=True)(tasks.add.func)
    with raises(InvalidTask, "priority must be a whole number"):
        tasks.add.using(priority=3.1)
    with raises(TypeError, "Unsupported type"):
        tasks.add.enqueue(now)
    with raises(InvalidTaskBackend, "doesn't exist"):
        tasks.add.using(backend="unknown")


def test_a_backend_with_no_queues_takes_any() -> None:
    result = tasks.add.using(backend="any", queue_name="anything").enqueue(1)
    with working("any", queues=["anything"]):
        ended(result)

    assert (result.return_value, result.backend, result.task.queue_name) == (1, "any", "anything")


def test_a_task_that_was_cancelled_has_failed() -> None:
    result = tasks.sleep.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1)
    with connection.cursor() as cursor:
        cursor.execute("select pgqueue.cancel(%s, 'not needed', 'ann')", [result.id])
        cursor.execute("select pgqueue.reprioritise(%s, 30000)", [tasks.add.enqueue(1).id])
    result.refresh()

    assert result.status == TaskResultStatus.FAILED
    assert [each.exception_class_path for each in result.errors] == ["pgqueue.errors.JobCancelled"], result
    assert result.errors[0].exception_class.__name__ == "JobCancelled"


def test_settings_that_are_wrong_are_found_by_the_checks() -> None:
    assert [each.id for each in run_checks() if "pgqueue" in str(each.id)] == []
    for options, text in (
        ({"database": "nowhere"}, "DATABASES has no 'nowhere'"),
        ({"database": "elsewhere"}, "must be PostgreSQL, got sqlite"),
        ({"max_retrys": 3}, "max_retrys"),
        ({"max_retries": "three"}, "max_retries"),
        ({"database": 7}, "'database' must be a str, got 7"),
        ({"include": "app.tasks"}, "'include' must be a list"),
        ({"schema": "so;wrong"}, "schema"),
        ({"codec": object()}, "'codec' cannot be used"),
    ):
        with override_settings(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": options}}):
            found = [each.msg for each in run_checks() if each.id == "pgqueue.E001"]
            assert len(found) == 1, options
            assert text in found[0]
            with raises((ImproperlyConfigured, PgQueueError, TypeError), text):
                queue()
    apps = [each for each in settings.INSTALLED_APPS if "pgqueue" not in each]
    with override_settings(INSTALLED_APPS=apps):
        assert [each.id for each in task_backends()["default"].check()] == ["pgqueue.W001"]


def test_a_database_without_the_schema_says_what_to_do_and_migrations_make_it() -> None:
    options = {"schema": "another"}
    with override_settings(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": options}}):
        with raises(SchemaError, "manage.py migrate"), transaction.atomic():
            tasks.add.enqueue(1)
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            call_command("pgqueue_migrate", dry_run=True, stdout=nowhere)
        with raises(SchemaError, "manage.py migrate"):
            tasks.add.enqueue(1)
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            call_command("pgqueue_migrate", stdout=nowhere)
        result = tasks.add.enqueue(1)
        with working():
            ended(result)
    assert result.return_value == 1


def test_django_migrates_the_schema_of_the_databases_that_its_tests_make() -> None:
    from django.test.utils import get_runner

    class Shop(get_runner(settings)):  # type: ignore[misc]
        def build_suite(self, *_: Any, **__: Any) -> Any:
            from unittest import TestSuite

            from django.test import TestCase

            class Enqueueing(TestCase):
                def test_enqueueing(self) -> None:
                    assert connection.settings_dict["NAME"].startswith("test_")
                    assert "test_" in dsn_of("default")
                    tasks.add.enqueue(1)
                    assert jobs() == 1

                def test_enqueueing_again(self) -> None:
                    assert jobs() == 0

            return TestSuite(map(Enqueueing, ("test_enqueueing", "test_enqueueing_again")))

    assert Shop(verbosity=0, interactive=False).run_tests([]) == 0


def test_the_admin_links_to_the_dashboard_for_those_who_may_see_it() -> None:
    from django.contrib.auth.models import User

    User.objects.create_superuser("ada", password="secret")
    User.objects.create_user("bob", password="secret", is_staff=True)
    ada, bob = Client(), Client()
    ada.login(username="ada", password="secret")
    bob.login(username="bob", password="secret")
    address = "/admin/pgqueue/dashboard/"

    assert address in ada.get("/admin/").content.decode()
    assert ada.get(address).headers["location"] == "/queue/"
    assert address not in bob.get("/admin/").content.decode()
    assert bob.get(address).status_code == 403
    with override_settings(TASKS={"default": {"BACKEND": BACKEND}}):
        assert address not in ada.get("/admin/").content.decode()


def test_the_dashboard_knows_the_users_of_the_project() -> None:
    from django.contrib.auth.models import Permission, User
    from starlette.testclient import TestClient

    from kit.django_site.asgi import application

    permitted = {"carl": ["view_dashboard", "change_dashboard"], "dora": ["view_dashboard"], "eve": []}
    for name, codes in permitted.items():
        user = User.objects.create_user(name, password="secret", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codes))
    job = tasks.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1).id
    answers: dict[str, list[int]] = {}
    with TestClient(application) as asking:
        assert asking.get("/admin/login/").status_code == 200
        for name in ("", "eve", "dora", "carl"):
            logged_in = Client()
            logged_in.login(username=name, password="secret")
            asking.cookies.clear()
            for cookie in logged_in.cookies.values():
                asking.cookies.set(cookie.key, cookie.value)
            read = asking.get(f"/queue/jobs/{job}")
            cancelled = asking.post(
                f"/queue/jobs/{job}/cancel", json={}, headers={"origin": "http://testserver"}
            )
            answers[name] = [read.status_code, cancelled.status_code]

    assert answers == {"": [403, 403], "eve": [403, 403], "dora": [200, 403], "carl": [200, 200]}, answers
    with connection.cursor() as cursor:
        cursor.execute("select actor from pgqueue.action where job_id = %s", [job])
        assert cursor.fetchall() == [("carl",)]


def test_threads_and_event_loops_share_one_queue_of_the_process() -> None:
    found: list[Any] = []

    def look() -> None:
        found.append(queue())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()

    async def look_there() -> Any:
        return await asyncio.to_thread(queue)

    assert found == [queue()]
    assert asyncio.run(look_there()) is queue()
    assert json.dumps(sorted(queue().registry.names)).count("kit.django_site.shop.tasks") >= 10
