"""What the shop does in the background."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction

from kit.django_site.shop.models import Order
from pgqueue.integrations.django import queue
from pgqueue.integrations.django.framework import PACKAGE

if PACKAGE == "django.tasks":
    from django.tasks import task
else:
    from django_tasks import task


__all__ = ["task"]


class ShopError(Exception):
    """Of this module alone."""


@task
def add(a: int, b: int = 0) -> int:
    """Compute."""
    return a + b


@task()
async def add_async(a: int, b: int = 0) -> int:
    """Compute, in a coroutine."""
    await asyncio.sleep(0)
    return a + b


@task(queue_name="mail", priority=5, takes_context=True)
def describe(context: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Say what the context has."""
    result = context.task_result
    return {
        "attempt": context.attempt,
        "id": result.id,
        "status": str(result.status),
        "args": result.args,
        "kwargs": result.kwargs,
        "queue": result.task.queue_name,
        "backend": result.backend,
        "workers": len(result.worker_ids),
        "given": [list(args), kwargs],
        "enqueued_at": result.enqueued_at.timestamp(),
        "is_aware": result.started_at.tzinfo is not None,
    }


@task(takes_context=True)
async def describe_async(context: Any, word: str) -> list[Any]:
    """Say what the context has, in a coroutine."""
    return [context.attempt, word]


@task
def count_orders() -> int:
    """Use the ORM."""
    return int(Order.objects.count())


@task
async def count_orders_async() -> int:
    """Use the ORM, in a coroutine."""
    return int(await Order.objects.acount())


@task
def fail(message: str) -> None:
    """Raise."""
    raise ShopError(message)


@task
async def fail_async(message: str) -> None:
    """Raise, in a coroutine."""
    raise ValueError(message)


@task
def leave() -> None:
    """Raise what ends programs."""
    raise SystemExit("this is the end")


@task
def interrupt() -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt("from within")


@task
def return_a_set() -> Any:
    """Return what is no JSON."""
    return {1, 2}


@task
def count_orders_by_the_event_loop() -> int:
    """Call a coroutine that uses the ORM."""
    return int(async_to_sync(Order.objects.acount)())


@task
async def count_orders_by_a_thread() -> list[int]:
    """Call functions that use the ORM, one of them by a coroutine, in one thread and one transaction."""

    def count() -> list[int]:
        with transaction.atomic():
            Order.objects.create(number=-1)
            counted = [Order.objects.count(), async_to_sync(Order.objects.acount)()]
            transaction.set_rollback(True)
        return counted

    return [*await sync_to_async(count)(), await Order.objects.acount()]


@task(takes_context=True)
def describe_task(context: Any) -> dict[str, Any]:
    """Say as which task it runs, and what is read of it meanwhile."""
    result = context.task_result
    before = str(result.status)
    result.refresh()
    return {
        "queue": result.task.queue_name,
        "priority": result.task.priority,
        "backend": result.task.backend,
        "statuses": [before, str(result.status)],
    }


def _double(number: int) -> int:
    """Compute."""
    return 2 * number


double = task(_double)


@task
def sleep(seconds: float) -> None:
    """Take a while."""
    time.sleep(seconds)


try:

    @task(options={"tags": ["nightly"], "expires": 3600, "delay": 60})
    def with_options() -> None:
        """Have what is written with the job."""

    @task(takes_context=True, options={"max_retries": 2, "retry_backoff": 0.001})
    def fail_twice(context: Any) -> int:
        """Succeed the third time."""
        if context.attempt < 3:
            raise ShopError(f"attempt {context.attempt}")
        return int(context.attempt)

    @task(options={"limits": [queue().limit("one", slots=1).by("account")]})
    def limited(account: int, size: int = 1) -> int:
        """Wait for others of the account."""
        return account + size

    @task(options={"ordered_by": lambda account, size: f"{account}/{size}"}, takes_context=True)
    def in_line(context: Any, account: int, size: int = 1) -> int:
        """Wait for what was enqueued before of the account and the size."""
        return account + size

    @task(options={"isolation": "process"})
    def count_in_a_child(number: int) -> list[int]:
        """Use the ORM in a process that can be killed."""
        return [os.getpid(), number, int(Order.objects.count())]

    @task(options={"isolation": "process"}, takes_context=True)
    async def count_in_a_child_async(context: Any, number: int) -> list[int]:
        """Use the ORM in a process that can be killed, in a coroutine."""
        return [os.getpid(), number, int(await Order.objects.acount()), context.attempt]

    @task(options={"isolation": "process"})
    def fail_in_a_child() -> None:
        """Raise in a process that can be killed."""
        raise ShopError("there")

    @task(options={"isolation": "process"})
    def kill_its_process() -> None:
        """End without a word."""
        os.kill(os.getpid(), signal.SIGKILL)

    @task(options={"isolation": "process", "timeout": 0.2})
    def wait_in_a_child() -> None:
        """Take longer than it may."""
        time.sleep(3600)
except TypeError:  # Django 6.0: its decorator takes no more
    fail_twice = with_options = limited = in_line = None
    count_in_a_child = count_in_a_child_async = fail_in_a_child = kill_its_process = wait_in_a_child = None
