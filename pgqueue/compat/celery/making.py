"""Makes tasks of functions: what `@app.task` and `@shared_task` do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pgqueue.compat.celery import current
from pgqueue.compat.celery.task import Task

_NO_MATTER: Final = (
    "lazy", "resultrepr_maxsize", "send_events", "shared", "store_errors_even_if_ignored", "trail",
)  # fmt: skip
"""Options about Celery's own parts, which change nothing of what becomes of a task."""


def make_task(
    app: Any, base: type[Task], function: Callable[..., Any], options: dict[str, Any], main: str | None
) -> Task:
    """Return a task of *function*. *app*: None if it is to belong to the current one.

    Raises NotImplementedError for an option that is not there.
    """
    given = {name: value for name, value in options.items() if name not in _NO_MATTER}
    base, bind = given.pop("base", None) or base, given.pop("bind", False)
    name = given.pop("name", None) or name_of(function, main)
    attributes = {
        "run": function if bind else staticmethod(function),
        "name": name,
        "abstract": False,
        "_app": app,
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__wrapped__": function,
        **given,
    }
    task: Task = type(function.__name__, (base,), attributes)()
    task.check()
    return task


def name_of(function: Callable[..., Any], main: str | None) -> str:
    """Return the name of a function's task: its module's, and its own."""
    module = function.__module__
    return f"{main or module if module == '__main__' else module}.{function.__name__}"


def place_of(task: Task) -> str:
    """Return where a task's function is."""
    return f"{task.module}.{task.function.__qualname__}"


def shared_task(*args: Any, **options: Any) -> Any:
    """Declare a function as a task of every app, as `app.task`: it stands for that of the current one."""

    def make(function: Callable[..., Any]) -> current.Proxy:
        name = options.get("name") or name_of(function, None)
        # Each app has a task of its own, with its own base.
        current.shared[name] = lambda app: make_task(app, app.Task, function, {**options, "name": name}, None)
        return current.Proxy(name, lambda: current.find_app().tasks[name])

    return make(*args) if args else make
