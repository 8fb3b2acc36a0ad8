"""A handler, and what is known about it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, Literal

from pgqueue.errors import InvalidTaskError
from pgqueue.flow.limits import LimitBy
from pgqueue.flow.ordering import OrderedBy
from pgqueue.options.levels import Options
from pgqueue.tasks.arguments import Arguments
from pgqueue.tasks.batches import Collector
from pgqueue.tasks.context import JobContext
from pgqueue.tasks.return_value import Result
from pgqueue.tasks.wrapping import check_runs, described, is_coroutine_function

Isolation = Literal["thread", "process"]
"""Where a handler runs: a non-async function in a thread, or any in a child process, which can be killed."""


def check_isolation(where: str, isolation: object) -> None:
    """Raise InvalidTaskError unless *isolation* is None or says where a handler runs."""
    if isolation not in (None, "thread", "process"):
        raise InvalidTaskError(f"{where}: isolation must be 'thread' or 'process', got {isolation!r}")


class TaskDefinition:
    """A handler, its name, and what is known about its parameters, result and options."""

    def __init__(
        self, name: str, handler: Callable[..., Any], options: Options, *, isolation: Isolation | None = None
    ) -> None:
        check_runs(name, handler)
        # What carries the parameters and annotations: partials and callable objects have them elsewhere.
        typed = described(name, handler)
        self.name = name
        self.handler = handler
        self.called = handler
        """What a direct call of the task calls."""
        self.collector: Collector | None = None
        """Collects jobs for a batch handler; None: its handler is called for each."""
        self.options = options
        check_isolation(f"task {name!r}", isolation)
        if isolation == "process" and "<locals>" in typed.__qualname__:
            raise InvalidTaskError(
                f"task {name!r}: isolation='process' needs a function at the top level of a module, which a "
                f"child process can import; {typed.__qualname__!r} is inside another function"
            )
        self.is_isolated = isolation == "process"
        """Whether it runs in a child process."""
        self.arguments = Arguments(name, typed, context_type=JobContext)
        self.takes_context = self.arguments.takes_context
        self.dependencies = self.arguments.dependencies
        self.is_coroutine = is_coroutine_function(handler)
        self.is_wrapped = bool(self.dependencies)
        """Whether something is around its calls: dependencies, or middleware."""
        self.is_async = self.is_coroutine and not self.is_isolated and not self.is_wrapped
        """Whether it runs as a coroutine of this process, with nothing around it."""
        self.result = Result(name, typed)
        self.module = typed.__module__
        """The module that its handler is in."""
        self.found_in = self.module
        """Where a child process finds it: a module, or `module:name` of its PgQueue."""
        self.limits: tuple[LimitBy, ...] = ()
        """What its jobs wait for until they may run."""
        self.ordered: OrderedBy | None = None
        """In which line its jobs stand before that. None: they have no order."""
        self.host: object | None = None
        """The PgQueue that declares it."""
        self.where = f"{typed.__module__}.{typed.__qualname__}"
        """Where the handler is defined, for errors."""

    def run_here(self) -> None:
        """Run in this process after all, which is a child process started for it."""
        self.is_isolated = False
        self.is_async = self.is_coroutine and not self.is_wrapped

    def wrap(self) -> None:
        """Have middleware run around its calls."""
        self.is_wrapped, self.is_async = True, False

    def for_json(self) -> TaskDefinition:
        """Return this task for calls whose arguments are JSON values. See `Arguments.for_json`."""
        task = copy(self)
        task.arguments = self.arguments.for_json()
        return task
