"""Parameters that are no arguments of the job: functions give them, for each attempt anew.

    async def open_session(ctx: JobContext[State]) -> AsyncIterator[Session]:
        async with ctx.state.sessions() as session:
            yield session

    @pgq.task
    async def charge(order_id: int, session: Session = Depends(open_session)) -> None: ...

What a generator does behind its `yield` comes when the handler has ended, before the outcome is written: a
commit that fails there fails the attempt. The handler's error is raised at the `yield`. A generator that
keeps it to itself does not change how the attempt ends, because it might keep a retry or a wait of the
handler's.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import anyio.to_thread

from pgqueue.errors import InvalidTaskError
from pgqueue.model.checks import shown
from pgqueue.tasks.wrapping import is_awaitable, is_coroutine_function

if TYPE_CHECKING:
    from contextlib import _AsyncGeneratorContextManager, _GeneratorContextManager

T = TypeVar("T")

_Parameter = inspect.Parameter
_FROM_OUTSIDE: Final = (_Parameter.POSITIONAL_OR_KEYWORD, _Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Dependency:
    """What stands where a parameter's value comes from a function."""

    function: Callable[..., Any]


@overload
def Depends(function: Callable[..., AsyncIterator[T] | Iterator[T]], /) -> T: ...
@overload
def Depends(function: Callable[..., Awaitable[T]], /) -> T: ...
@overload
def Depends(
    function: Callable[..., _AsyncGeneratorContextManager[T] | _GeneratorContextManager[T]], /
) -> T: ...
@overload
def Depends(function: Callable[..., T], /) -> T: ...
def Depends(function: Callable[..., Any], /) -> Any:  # noqa: N802  # the field's name, and a marker
    """Have a parameter of a handler filled by *function*, once per attempt, instead of by the call.

        async def charge(order_id: int, session: Session = Depends(open_session)) -> None: ...

    The parameter is no argument of the job. *function* is async or not (then it runs in a thread), and may be
    a generator, which yields the value and cleans up behind its `yield` when the handler has ended. Its own
    parameters are a JobContext, or dependencies, each of which is made once per attempt. What it raises, the
    attempt raises. `Annotated[Session, Depends(open_session)]` works as well; type checkers then take the
    parameter for one of the call. Raises InvalidTaskError.
    """
    if not callable(function):
        raise InvalidTaskError(f"Depends: it must be given a function, got {shown(function)}")
    return Dependency(function)


def dependency_in(parameter: inspect.Parameter, annotation: Any) -> Dependency | None:
    """Return what fills a parameter, by its default or in its annotation; None: the call does."""
    if isinstance(parameter.default, Dependency):
        return parameter.default
    if get_origin(annotation) is Annotated:
        found = [each for each in get_args(annotation)[1:] if isinstance(each, Dependency)]
        return found[-1] if found else None
    return None


@dataclass(frozen=True, slots=True)
class Provider:
    """A function that gives values, and what it takes itself."""

    function: Callable[..., Any]
    """The user's: its value is made once per attempt."""
    call: Callable[..., Any]
    """Returns the value, an awaitable of it, or a context manager of it."""
    is_async: bool
    is_generator: bool
    context_parameter: str | None
    takes: Mapping[str, Provider]


class Dependencies:
    """What fills the parameters of one handler that are no arguments of its jobs."""

    def __init__(self, task: str, context_type: type, found: Mapping[str, Dependency]) -> None:
        self._providers = {
            name: _provider(task, each.function, context_type, ()) for name, each in found.items()
        }

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._providers)

    @property
    def names(self) -> frozenset[str]:
        """The parameters that they fill."""
        return frozenset(self._providers)

    def check_given(
        self, task: str, handler: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        """Raise TypeError for a direct call that lacks one of them."""
        given = inspect.signature(handler).bind_partial(*args, **kwargs).arguments
        missing = [f"{name}=" for name in self._providers if name not in given]
        if missing:
            raise TypeError(
                f"task {task!r}: a worker fills its dependencies; in a direct call, pass {', '.join(missing)}"
            )

    async def call(self, handler: Callable[..., Awaitable[Any]], context: Any) -> Any:
        """Call *handler* with the values, and clean up behind them, in the reverse order."""
        raised: BaseException | None = None
        made: dict[Callable[..., Any], Any] = {}
        try:
            async with AsyncExitStack() as stack:
                values = {
                    name: await _value(provider, stack, made, context)
                    for name, provider in self._providers.items()
                }
                try:
                    value = await handler(**values)
                except BaseException as error:
                    raised = error
                    raise
            if raised is not None:
                raise raised
            return value
        finally:
            # An error refers to this frame, and would to itself.
            raised = None


async def _value(
    provider: Provider, stack: AsyncExitStack, made: dict[Callable[..., Any], Any], context: Any
) -> Any:
    if provider.function in made:
        return made[provider.function]
    given = {name: await _value(inner, stack, made, context) for name, inner in provider.takes.items()}
    if provider.context_parameter is not None:
        given[provider.context_parameter] = context
    if provider.is_generator:
        manager = provider.call(**given)
        value = await stack.enter_async_context(manager if provider.is_async else _in_threads(manager))
    elif provider.is_async:
        value = await provider.call(**given)
    else:
        value = await anyio.to_thread.run_sync(partial(provider.call, **given))
        if is_awaitable(value):
            # A wrapper of a coroutine function returns its coroutine.
            value = await value
    made[provider.function] = value
    return value


@asynccontextmanager
async def _in_threads(manager: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave *manager* in threads: it may block."""
    value = await anyio.to_thread.run_sync(manager.__enter__)
    try:
        yield value
    except BaseException as error:
        await anyio.to_thread.run_sync(manager.__exit__, type(error), error, error.__traceback__)
        raise
    else:
        await anyio.to_thread.run_sync(manager.__exit__, None, None, None)


def _provider(
    task: str, function: Callable[..., Any], context_type: type, outer: tuple[Callable[..., Any], ...]
) -> Provider:
    name = getattr(function, "__name__", repr(function))
    if function in outer:
        raise InvalidTaskError(f"task {task!r}: the dependency {name!r} depends on itself")
    try:
        parameters = inspect.signature(function).parameters.values()
        hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    except NameError as error:
        raise InvalidTaskError(f"task {task!r}: the dependency {name!r}: {error}") from error
    except (TypeError, ValueError):
        # A class, or a callable object, whose parameters have no annotations of their own.
        parameters, hints = {}.values(), {}
    context_parameter: str | None = None
    takes: dict[str, Provider] = {}
    for parameter in parameters:
        annotation = hints.get(parameter.name, Any)
        dependency = dependency_in(parameter, annotation)
        if parameter.kind in _FROM_OUTSIDE and dependency is not None:
            takes[parameter.name] = _provider(task, dependency.function, context_type, (*outer, function))
        elif parameter.kind in _FROM_OUTSIDE and is_context(annotation, context_type):
            context_parameter = parameter.name
        elif parameter.default is _Parameter.empty and parameter.kind not in (
            _Parameter.VAR_POSITIONAL,
            _Parameter.VAR_KEYWORD,
        ):
            raise InvalidTaskError(
                f"task {task!r}: the dependency {name!r} has the parameter {parameter.name!r}, which is "
                f"neither a {context_type.__name__} nor a dependency itself, nor has a default"
            )
    # What @asynccontextmanager has made of a generator function returns a manager already.
    inner = inspect.unwrap(function)
    is_async, is_generator, call = is_coroutine_function(function), False, function
    if inspect.isasyncgenfunction(inner):
        is_async = is_generator = True
        call = asynccontextmanager(function) if function is inner else function
    elif inspect.isgeneratorfunction(inner):
        is_generator = True
        call = contextmanager(function) if function is inner else function
    return Provider(function, call, is_async, is_generator, context_parameter, takes)


def is_context(annotation: Any, context_type: type) -> bool:
    """Whether *annotation* is *context_type*, or that of some state."""
    return annotation is context_type or get_origin(annotation) is context_type
