"""What travels with a job beside its call: callbacks, notes, a description."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from pgqueue.compat import not_there

PREFIX: Final = "rq-"
ON_SUCCESS: Final = PREFIX + "on-success"
ON_FAILURE: Final = PREFIX + "on-failure"
DESCRIPTION: Final = PREFIX + "description"
META: Final = PREFIX + "meta"

here: Final[ContextVar[object]] = ContextVar("pgqueue_rq_connection", default=None)
"""The connection of the job that is running."""


class Callback:
    """A function to call with `(job, connection, result)`, or `(job, connection, type, value, traceback)`.

    It is called by the worker after an attempt, and within the time limit of its job.
    """

    def __init__(self, func: str | Callable[..., Any], timeout: object = None) -> None:
        if timeout is not None:
            raise not_there("Callback(timeout=)", "the job's own time limit (job_timeout) holds for it")
        self.func = func

    @property
    def name(self) -> str:
        """The path by which a worker imports it."""
        return path_of(self.func)


def path_of(function: str | Callable[..., Any]) -> str:
    """Return the path by which a worker imports *function*. Raises TypeError or ValueError: there is none."""
    if isinstance(function, str):
        return function
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise TypeError(f"{function!r} has no path by which a worker could import it")
    if module == "__main__" or "<" in name:
        raise ValueError(
            f"a worker cannot import {name!r} of {module!r}: move the function to the top level of a module"
        )
    return f"{module}.{name}"


def read_callback(what: str, given: Callback | str | Callable[..., Any] | None) -> Mapping[str, str]:
    """Return the header that names a callback, or none."""
    if given is None:
        return {}
    callback = given if isinstance(given, Callback) else Callback(given)
    return {what: callback.name}


def read_headers(meta: Mapping[str, Any] | None, description: str | None) -> dict[str, str]:
    """Return the headers that carry what RQ keeps beside a call."""
    headers = {} if description is None else {DESCRIPTION: description}
    return headers | ({META: json.dumps(meta)} if meta else {})
