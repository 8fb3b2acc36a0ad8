"""A handler, and what is known about it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from pgqueue.errors import InvalidTaskError
from pgqueue.options.levels import Options
from pgqueue.tasks.arguments import Arguments, Result
from pgqueue.tasks.context import JobContext

Isolation = Literal["thread", "process"]
"""Where a handler runs: a non-async function in a thread, or any in a child process, which can be killed."""


class TaskDefinition:
    """A handler, its name, and what is known about its parameters, result and options."""

    def __init__(
        self, name: str, handler: Callable[..., Any], options: Options, *, isolation: Isolation | None = None
    ) -> None:
        if not callable(handler) or isinstance(handler, type):
            raise InvalidTaskError(f"task {name!r}: the handler must be a function, got {handler!r}")
        if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
            raise InvalidTaskError(f"task {name!r}: a generator function cannot be a task; return a list")
        self.name = name
        self.handler = handler
        self.options = options
        if isolation not in (None, "thread", "process"):
            raise InvalidTaskError(
                f"task {name!r}: isolation must be 'thread' or 'process', got {isolation!r}"
            )
        if isolation == "process" and "<locals>" in getattr(handler, "__qualname__", ""):
            raise InvalidTaskError(
                f"task {name!r}: isolation='process' needs a function at the top level of a module, which a "
                f"child process can import; {handler.__qualname__!r} is inside another function"
            )
        self.is_isolated = isolation == "process"
        """Whether it runs in a child process."""
        self.is_async = inspect.iscoroutinefunction(handler) and not self.is_isolated
        """Whether it runs as a coroutine of this process."""
        self.arguments = Arguments(name, handler, context_type=JobContext)
        self.context_parameter = self.arguments.context_parameter
        self.result = Result(name, handler)

    def run_here(self) -> None:
        """Run in this process after all, which is a child process started for it."""
        self.is_isolated = False
        self.is_async = inspect.iscoroutinefunction(self.handler)

    @property
    def where(self) -> str:
        """Where the handler is defined, for errors."""
        return f"{self.handler.__module__}.{self.handler.__qualname__}"
