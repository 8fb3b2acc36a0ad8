"""Declared tasks: what callers enqueue."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from itertools import islice
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    TypeVarTuple,
    overload,
)
from uuid import UUID

from pgqueue.errors import InvalidOptionError, InvalidWorkflowError
from pgqueue.model.checks import shown
from pgqueue.model.ids import read_id
from pgqueue.options.declared import CallOptions
from pgqueue.options.levels import NO_OPTIONS, Options, read_options
from pgqueue.options.table import Level
from pgqueue.tasks.batches import BatchItem, Reply
from pgqueue.tasks.canvas import Group, Link, Whole, canvases_of, each_of
from pgqueue.tasks.context import JobContext
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.handle import JobHandle, Jobs
from pgqueue.tasks.signature import Immutable, Signature

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pgqueue.database.callers import CallersConnection


P = ParamSpec("P")
Rest = ParamSpec("Rest")
A = TypeVar("A")
R = TypeVar("R")
S = TypeVar("S")
Ts = TypeVarTuple("Ts")


class Queue(Jobs, Protocol):
    """What a task needs of a PgQueue."""

    async def enqueue(
        self,
        signature: Signature[R],
        *,
        connection: CallersConnection | None = None,
        autocommit: bool = False,
    ) -> JobHandle[R]:
        """Enqueue one job."""


class Task(Generic[P, R]):
    """A declared task. Calling it runs the handler in this process; `enqueue` lets a worker run it."""

    def __init__(
        self,
        queue: Queue,
        definition: TaskDefinition,
        options: Options = NO_OPTIONS,
        connection: CallersConnection | None = None,
        *,
        autocommit: bool = False,
    ) -> None:
        functools.update_wrapper(self, definition.handler, updated=())
        if isinstance(definition.handler, FunctionType):
            # Its own attributes, as a decorator keeps them; none may stand before a method of the task's.
            own = {key: value for key, value in vars(definition.handler).items() if not hasattr(Task, key)}
            vars(self).update(own)
        self._queue = queue
        self._options = options
        self._connection = connection
        self._autocommit = autocommit
        self.definition = definition

    @property
    def host(self) -> Queue:
        """The PgQueue that declares it."""
        return self._queue

    @property
    def options_of_calls(self) -> Options:
        """What `options` has set for its calls."""
        return self._options

    @property
    def name(self) -> str:
        """The name under which the task's jobs are stored."""
        return self.definition.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the handler directly, without a job. Pass its dependencies, too, by name.

        Raises TypeError if one of them is missing.
        """
        if self.definition.dependencies:
            self.definition.dependencies.check_given(self.name, self.definition.handler, args, kwargs)
        return self.definition.called(*args, **kwargs)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Add a job and return its handle once it is durable. Does not wait for its execution.

        With `options(connection=...)` the job is part of that connection's transaction: it exists if and only
        if the transaction commits, and no worker sees it before. Raises InvalidArgumentsError before any I/O,
        DatabaseUnavailableError, UnusableConnectionError.
        """
        call: Signature[R] = Signature(self.name, args, kwargs, self._options, self.definition)
        return await self._queue.enqueue(call, connection=self._connection, autocommit=self._autocommit)

    # A type checker that met Any while it chose an overload of the decorator knows a Task[Any, Any]: its
    # calls fit anywhere. Where all parameters have defaults, a call is whole, and could lack the first one.
    @overload
    def s(self: Task[..., _Untyped], *args: Any, **kwargs: Any) -> Any: ...
    @overload
    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]: ...  # type: ignore[overload-overlap]
    @overload
    def s(
        self: Callable[Concatenate[A, Rest], Any], *args: Rest.args, **kwargs: Rest.kwargs
    ) -> Link[A, R]: ...
    def s(self, *args: Any, **kwargs: Any) -> Any:
        """Return this call as a value, to enqueue later, alone or composed with others.

        Without its first argument it is a link: what comes before it, in a chain for example, gives it that.
        Raises InvalidOptionError for a task with a connection: a call has none.
        """
        self._check_no_connection("s")
        return Signature(self.name, args, kwargs, self._options, self.definition)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Whole[R]:
        """Return this call as a value that takes no result, wherever it stands: see `s`."""
        self._check_no_connection("si")
        call: Any = Immutable(self.name, args, kwargs, self._options, self.definition)
        return call  # type: ignore[no-any-return]  # see Link

    def map(self: Callable[[A], Any], items: Iterable[A]) -> Group[R]:
        """Return a group of one call per item. Raises InvalidWorkflowError."""
        return _calls(self, ((item,) for item in each_of(items)))

    def starmap(self: Callable[[*Ts], Any], items: Iterable[tuple[*Ts]]) -> Group[R]:
        """Return a group of one call per tuple of arguments. Raises InvalidWorkflowError."""
        return _calls(self, map(_arguments, each_of(items)))

    def chunks(  # type: ignore[misc]  # a list is no supertype of whatever the task takes
        self: Callable[[list[A]], Any], items: Iterable[A], size: int
    ) -> Group[R]:
        """Return a group of one call per *size* items, for a task that takes a list of them.

        Raises InvalidWorkflowError.
        """
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InvalidWorkflowError(f"chunks: size must be an integer from 1 on, got {shown(size)}")
        return _calls(self, ((part,) for part in _parts(items, size)))

    def handle(self, job_id: UUID | str) -> JobHandle[R]:
        """Return a handle of a job of this task by its id. It may not exist. Raises InvalidIdError."""
        return JobHandle(self._queue, read_id(job_id), self.definition)

    def options(
        self,
        *,
        connection: CallersConnection | None = None,
        autocommit: bool = False,
        **options: Unpack[CallOptions],
    ) -> Self:
        """Return this task with other options for its jobs. Raises InvalidOptionError.

        *connection* and *autocommit* are those of its `enqueue`: see `PgQueue.enqueue_many`.
        """
        call = read_options(f"task {self.name!r}", options, Level.CALL)
        return type(self)(
            self._queue,
            self.definition,
            self._options | call,
            connection if connection is not None else self._connection,
            autocommit=autocommit or self._autocommit,
        )

    def _check_no_connection(self, verb: str) -> None:
        # A call that left it out would be enqueued in a transaction of its own, and stay where that of the
        # caller is rolled back.
        if self._connection is not None or self._autocommit:
            raise InvalidOptionError(
                f"task {self.name!r}: a call keeps no connection; pass connection= and autocommit= to what "
                f"enqueues the call, such as pgq.enqueue(task.{verb}(...), connection=...)"
            )

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


class AsyncTask(Task[P, R]):
    """A declared task whose handler is async: a direct call returns a coroutine."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
            """Call the handler directly, without a job."""


class SyncTask(Task[P, R]):
    """A declared task whose handler is not async: a direct call returns its result."""

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
            """Call the handler directly, without a job."""


class _Untyped:
    """Of all results of tasks, only Any is one."""


def _calls(task: Any, items: Iterable[Any]) -> Group[Any]:
    assert isinstance(task, Task)
    # A group of none is enqueued like any other.
    host: Any = task.host
    return Group(canvases_of((task.s(*arguments) for arguments in items), "a member of a group"), host=host)


def _arguments(item: Any) -> tuple[Any, ...]:
    if not isinstance(item, Iterable) or isinstance(item, str | bytes):
        raise InvalidWorkflowError(f"starmap: each item must be a tuple of arguments, got {shown(item)}")
    return tuple(item)


def _parts(items: Iterable[A], size: int) -> Iterator[list[A]]:
    left = each_of(items)
    while part := list(islice(left, size)):
        yield part


class Declare(Protocol):
    """The decorator that turns a function into a Task.

    A leading JobContext parameter is filled by the worker, and is not part of a call.
    """

    # What is awaitable is a result, too: the first that fits is meant.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, handler: Callable[Concatenate[JobContext[S], P], Awaitable[R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, handler: Callable[Concatenate[JobContext[S], P], R], /) -> SyncTask[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, handler: Callable[P, Awaitable[R]], /
    ) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, handler: Callable[P, R], /) -> SyncTask[P, R]: ...
    def __call__(self, handler: Callable[..., Any], /) -> Any:
        """Declare *handler*."""


class DeclareBatch(Protocol):
    """Declares a batch handler as a task: what `PgQueue.task(Batch(...))` returns."""

    def __call__(
        self, handler: Callable[[list[BatchItem[A]]], Awaitable[Reply] | Reply], /
    ) -> AsyncTask[[A], Any]:
        """Declare *handler*."""
