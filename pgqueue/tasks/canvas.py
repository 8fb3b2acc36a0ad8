"""Calls composed to workflows, as values: what can be enqueued, and what still lacks the result before it.

Both are the same at run time, and their place says which they are: the first of a chain is a whole call, and
what comes later takes the result before it. The types say it at the call, so that a result that the next
task does not take is an error of the type checker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol, TypeVar, cast

from pgqueue.errors import ConfigurationError, InvalidWorkflowError
from pgqueue.model.checks import number, shown
from pgqueue.options.declared import CallOptions
from pgqueue.options.levels import NO_OPTIONS, Options, read_options
from pgqueue.options.table import Level
from pgqueue.tasks.joins import Join
from pgqueue.tasks.results import Outcome

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pgqueue.database.callers import CallersConnection
    from pgqueue.tasks.workflow_handle import WorkflowHandle

A = TypeVar("A")
B = TypeVar("B")
A_co = TypeVar("A_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
In_contra = TypeVar("In_contra", contravariant=True)

MAX_NODES: Final = 100_000
"""Jobs and joins in one workflow: it is written in one transaction, and compiled in memory."""
MAX_STAGGER: Final = 24 * 60 * 60.0
LONG: Final = 100
"""Parts of a chain that `|` still copies."""

When = Literal["success", "error", "complete"]
"""When a callback's job is made: once the workflow succeeded, or did not, or in any case."""

Callbacks = tuple[tuple[When, "Canvas[Any]"], ...]


class Host(Protocol):
    """What a canvas needs of the PgQueue of its tasks."""

    async def enqueue_workflow(
        self, canvas: Canvas[A], *, connection: CallersConnection | None = None, autocommit: bool = False
    ) -> WorkflowHandle[A]:
        """Enqueue a canvas."""


class Canvas(Generic[R_co]):
    """What can be enqueued and comes to an R: a call, or several that are composed."""

    __slots__ = ()

    def __or__(self, after: Link[R_co, B]) -> Canvas[B]:
        """Return this, and *after* it what takes its result."""
        return cast("Canvas[B]", then(self, after))

    def set(
        self,
        *,
        on_success: Callback[R_co] | None = None,
        on_error: Callback[Any] | None = None,
        on_complete: Callback[R_co] | None = None,
        **options: Unpack[CallOptions],
    ) -> Canvas[R_co]:
        """Return this with options for its jobs that set none themselves, and with callbacks.

        Callbacks are jobs of their own, made once this has succeeded, has ended otherwise, or has ended in
        any case: one or several calls, each of which takes the Outcome (`.si()`: nothing). A chain or a group
        calls them once, for the whole. Setting one anew replaces it. Raises InvalidOptionError,
        InvalidWorkflowError.
        """
        raise NotImplementedError

    async def enqueue(
        self, *, connection: CallersConnection | None = None, autocommit: bool = False
    ) -> WorkflowHandle[R_co]:
        """Enqueue it: all of it or nothing, in the caller's transaction if a *connection* is given.

        *connection* and *autocommit* as for `PgQueue.enqueue_many`.
        While the server writes one part of a large workflow, the next one is compiled, unless a *connection*
        is given or queues are limited; if a part is refused, nothing stays written. Raises
        InvalidArgumentsError, InvalidOptionError, InvalidWorkflowError, PayloadTooLargeError, QueueFullError
        and DatabaseUnavailableError. It is the PgQueue of its tasks that enqueues it: call
        `pgq.enqueue_workflow` where all tasks are known by name alone.
        """
        return await _host_of(self).enqueue_workflow(self, connection=connection, autocommit=autocommit)


class Link(Generic[In_contra, R_co]):
    """A call, or several, that lack their first argument: the result of what comes before.

    For type checkers. At run time it is the value that the same call is elsewhere.
    """

    if TYPE_CHECKING:

        def __or__(self, after: Link[R_co, B]) -> Link[In_contra, B]:
            """Return this, and *after* it what takes its result."""

        def set(
            self,
            *,
            on_success: Callback[R_co] | None = None,
            on_error: Callback[Any] | None = None,
            on_complete: Callback[R_co] | None = None,
            **options: Unpack[CallOptions],
        ) -> Link[In_contra, R_co]:
            """Return this with options and callbacks: see Canvas.set."""


class Whole(Canvas[R_co], Link[object, R_co]):
    """A call that takes no result (`.si()`): it can stand anywhere. For type checkers."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __or__(self, after: Link[R_co, B]) -> Whole[B]:
            """Return this, and *after* it what takes its result."""

        def set(
            self,
            *,
            on_success: Callback[R_co] | None = None,
            on_error: Callback[Any] | None = None,
            on_complete: Callback[R_co] | None = None,
            **options: Unpack[CallOptions],
        ) -> Whole[R_co]:
            """Return this with options and callbacks: see Canvas.set."""


Callback = Link[Outcome[A], Any] | Sequence[Link[Outcome[A], Any]]
"""What is called with an outcome: one call or several, in this order."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Chain(Canvas[R_co]):
    """Calls that run one after the other."""

    parts: tuple[Canvas[Any], ...]
    options: Options = NO_OPTIONS
    callbacks: Callbacks = ()

    def set(self, **given: Any) -> Chain[R_co]:
        """Return this with other options: see Canvas.set."""
        options, callbacks = read_settings("the chain", given, self.callbacks)
        return replace(self, options=self.options | options, callbacks=callbacks)

    def __repr__(self) -> str:
        return f"<Chain of {_length(self)}>"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Group(Canvas[list[A_co]], Generic[A_co]):
    """Calls that run at the same time. It comes to the list of their results, in their order."""

    members: tuple[Canvas[A_co], ...]
    options: Options = NO_OPTIONS
    callbacks: Callbacks = ()
    join: Join = "all"
    fail_fast: bool = False
    stagger_by: float = field(default=0.0)
    host: Host | None = field(default=None)
    """Of the task whose calls its members are: there may be none of them."""

    def set(self, **given: Any) -> Group[A_co]:
        """Return this with other options: see Canvas.set."""
        options, callbacks = read_settings("the group", given, self.callbacks)
        return replace(self, options=self.options | options, callbacks=callbacks)

    def stagger(self, seconds: float) -> Group[A_co]:
        """Return this with its members starting *seconds* apart. Raises InvalidOptionError."""
        return replace(
            self,
            stagger_by=number("stagger", seconds, unit="seconds", least=0, most=MAX_STAGGER),
        )

    def __repr__(self) -> str:
        return f"<Group of {len(self.members)}>"


def _length(chain: Chain[Any]) -> int:
    """Count the parts of a chain; one in front that `|` has nested counts as what it has."""
    length, first = len(chain.parts), chain.parts[0]
    while isinstance(first, Chain) and len(first.parts) >= LONG and not first.options and not first.callbacks:
        length += len(first.parts) - 1
        first = first.parts[0]
    return length


def then(first: object, after: object) -> Chain[Any]:
    """Return *first*, then *after*. A chain in front grows, and is not nested anew by each `|`.

    A long one is: copied each time, chains of n links that are made link by link would take n squared.
    """
    first, after = canvas_of(first, "the first of a chain"), canvas_of(after, "a link")
    if isinstance(first, Chain) and not first.options and not first.callbacks and len(first.parts) < LONG:
        return Chain((*first.parts, after))
    return Chain((first, after))


def canvas_of(value: object, what: str) -> Canvas[Any]:
    """Return *value*, which must be a canvas. Raises InvalidWorkflowError."""
    if not isinstance(value, Canvas):
        raise InvalidWorkflowError(
            f"{what} must be a call such as task.s(...), or calls composed by chain, group or chord, "
            f"got {shown(value)}"
        )
    return value


def canvases_of(values: Iterable[object], what: str) -> tuple[Canvas[Any], ...]:
    """Return *values*, which may be a generator, as canvases. Raises InvalidWorkflowError."""
    found = tuple(canvas_of(value, what) for value in islice(each_of(values), MAX_NODES + 1))
    if len(found) > MAX_NODES:
        raise too_many()
    return found


def each_of(values: Iterable[A]) -> Iterator[A]:
    """Return an iterator of *values*. Raises InvalidWorkflowError if there can be none."""
    try:
        return iter(values)
    except TypeError:
        raise InvalidWorkflowError(f"a group is made of several values, got {shown(values)}") from None


def too_many() -> InvalidWorkflowError:
    """Return the error for a workflow with too many nodes."""
    return InvalidWorkflowError(
        f"a workflow can have at most {MAX_NODES:,} jobs and joins: let a member take several items "
        "(task.chunks), or enqueue several workflows"
    )


_CALLBACKS: Final[Mapping[str, When]] = {
    "on_success": "success",
    "on_error": "error",
    "on_complete": "complete",
}


def read_settings(what: str, given: Mapping[str, Any], before: Callbacks) -> tuple[Options, Callbacks]:
    """Return the options and the callbacks of a call of `set`; *before*: the callbacks until now."""
    options = {name: value for name, value in given.items() if name not in _CALLBACKS}
    callbacks = before
    for name, when in _CALLBACKS.items():
        if name in given:
            value = given[name]
            calls = () if value is None else value if isinstance(value, list | tuple) else (value,)
            new = tuple((when, canvas_of(call, name)) for call in calls)
            if any(isinstance(call, Chain | Group) for _, call in new):
                raise InvalidWorkflowError(f"{what}: {name} must be a single call, or a list of such")
            callbacks = (*(each for each in callbacks if each[0] != when), *new)
    return read_options(what, options, Level.CALL), callbacks


def _host_of(canvas: Canvas[Any]) -> Host:
    """Return the PgQueue of the first call in *canvas* that knows one."""
    waiting: list[Canvas[Any]] = [canvas]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Chain):
            waiting.extend(reversed(each.parts))
        else:
            host = getattr(each, "host", None)
            if host is not None:
                return cast(Host, host)
            if isinstance(each, Group):
                waiting.extend(reversed(each.members))
    raise ConfigurationError(
        "no call of this workflow knows its PgQueue, because tasks are named by strings or there are no "
        "calls: use pgq.enqueue_workflow(...)"
    )
