"""Keys of limits and ordered groups, from the arguments of Django's tasks.

A job of such a task has two arguments of its own, `args` and `kwargs`. Its limits name those of the function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from pgqueue.errors import InvalidTaskError
from pgqueue.flow.limits import LimitBy, is_key
from pgqueue.model.checks import shown


def with_keys(task: Any, given: Any) -> Any:
    """Return limits, or what jobs are ordered by, with keys that a job's arguments are read for.

    Raises InvalidTaskError for a key that is no argument of the task's function.
    """
    if isinstance(given, LimitBy):
        return given if given.key is None else replace(given, key=_reading(task, given.key))
    if isinstance(given, str) or callable(given):
        return _reading(task, given)
    if isinstance(given, Iterable):
        return [with_keys(task, each) for each in given]
    return given


def _reading(task: Any, key: Any) -> Callable[..., object]:
    if not is_key(key):
        raise InvalidTaskError(
            f"task {task.name!r}: a key is the name of an argument or a function of the arguments that is "
            f"not async, got {shown(key)}"
        )
    signature = inspect.signature(task.func)
    before = (None,) if task.takes_context else ()
    names = list(signature.parameters)[len(before) :]
    if isinstance(key, str) and key not in names:
        raise InvalidTaskError(
            f"task {task.name!r}: the key {key!r} is no argument of it (it has: {', '.join(names) or 'none'})"
        )

    def read(args: list[Any], kwargs: Mapping[str, Any]) -> object:
        bound = signature.bind(*before, *args, **kwargs)
        bound.apply_defaults()
        arguments = {name: bound.arguments[name] for name in names}
        return arguments[key] if isinstance(key, str) else key(**arguments)

    return read
