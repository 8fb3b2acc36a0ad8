"""The options of Celery's tasks that are not there."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from pgqueue.compat.missing import not_there

_WAYS: Final[Mapping[str, str]] = {
    "Request": "put the code around the task into a Middleware: `app.pgqueue.middleware(...)`",
    "Strategy": "put the code around the task into a Middleware: `app.pgqueue.middleware(...)`",
    "compression": "leave it out: PostgreSQL compresses large values",
    "delivery_mode": "leave it out: every job is on the disk once the call has returned",
    "exchange": "use queue=",
    "exchange_type": "use queue=",
    "filter": "wrap the function yourself",
    "add_around": "override __call__ in a base task",
    "annotate": "set the options on the tasks themselves",
    "on_bound": "do it where the app is made, or connect to app.on_after_finalize",
    "on_replace": "declare an async task with `@app.pgqueue.task`, and `return await ctx.run(...)`",
    "immediate": "leave it out",
    "mandatory": "leave it out",
    "pydantic": "declare it with `@app.pgqueue.task`: annotations are validated there",
    "pydantic_context": "declare it with `@app.pgqueue.task`: annotations are validated there",
    "pydantic_dump_kwargs": "declare it with `@app.pgqueue.task`: annotations are validated there",
    "pydantic_strict": "declare it with `@app.pgqueue.task`: annotations are validated there",
    "routing_key": "use queue=",
    "shadow_name": "declare the task with another name=",
    "store_eager_result": "use the test kit, pgqueue.testing, for jobs that run in tests",
}
_JSON: Final = ("json", "application/json", None)


def check_options(task: Any) -> None:
    """Raise NotImplementedError for an option of *task* that is not there."""
    for option, way in _WAYS.items():
        if getattr(task, option, None):
            raise not_there(f"task {task.name}: {option}=", way)
    if task.serializer not in _JSON:
        raise not_there(f"task {task.name}: serializer={task.serializer!r}", "use 'json'")
    if task.acks_on_failure_or_timeout is False:
        raise not_there(
            f"task {task.name}: acks_on_failure_or_timeout=False",
            "use autoretry_for=(...): a failed attempt is retried or has failed",
        )
    if inspect.iscoroutinefunction(task.function):
        raise not_there(
            f"task {task.name}: an async function",
            "declare it with `@app.pgqueue.task`, beside Celery's tasks",
        )
