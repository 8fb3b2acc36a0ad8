"""Sees through what handlers are wrapped in: decorators, partials, callable objects, tasks of tasks.

A wrapper of a coroutine function is a plain function by every sign that Python has, and returns a coroutine,
which does nothing until it is awaited. So what a handler returns is looked at as well.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from types import AsyncGeneratorType, FunctionType, GeneratorType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pgqueue.errors import InvalidTaskError

_PROMISES = (Awaitable, Coroutine, asyncio.Future, asyncio.Task)


def is_awaitable(value: object) -> bool:
    """Whether *value* can be awaited. Asks nothing of the value itself, whose class may be the user's."""
    if type(value) is GeneratorType:
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return hasattr(type(value), "__await__")


def is_deferred(value: object) -> bool:
    """Whether *value* stands for code that has not run yet: an awaitable or a generator."""
    return type(value) in (GeneratorType, AsyncGeneratorType) or is_awaitable(value)


def unwrapped(handler: Any) -> Any:
    """Return the function inside partials, bound methods and callable objects; a decorator's own function."""
    while True:
        if isinstance(handler, functools.partial):
            handler = handler.func
        elif inspect.ismethod(handler) or isinstance(handler, staticmethod):
            handler = handler.__func__
        elif inspect.isroutine(handler) or isinstance(handler, type) or not callable(handler):
            return handler
        else:
            # Of the class: calling the object does not look at the attribute of the object.
            call = type(handler).__call__
            if not inspect.isroutine(call) or not isinstance(call, FunctionType):
                return handler
            handler = call


def is_coroutine_function(handler: Any) -> bool:
    """Whether calling *handler* makes a coroutine, by what it is made of."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(unwrapped(handler))


def check_runs(task: str, handler: Any) -> None:
    """Raise InvalidTaskError for what cannot run as a job."""
    if isinstance(handler, classmethod | property):
        raise InvalidTaskError(
            f"task {task!r}: the handler is a {type(handler).__name__} of a class body; declare it after the "
            "class, on the class or an instance"
        )
    if not callable(handler) or isinstance(handler, type):
        raise InvalidTaskError(f"task {task!r}: the handler must be a function, got {handler!r}")
    inner = unwrapped(handler)
    if isinstance(inner, type):
        raise InvalidTaskError(f"task {task!r}: the handler must be a function, got {inner!r}")
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        raise InvalidTaskError(f"task {task!r}: a generator function cannot be a task; return a list")


def described(task: str, handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that has the parameters and annotations of *handler*: itself, if it is one.

    Raises InvalidTaskError if they cannot be read.
    """
    try:
        signature = inspect.signature(handler)
        # A decorator takes over the annotations of what it wraps, and these may be elsewhere, too.
        innermost = inspect.unwrap(handler)
    except (TypeError, ValueError) as error:
        raise InvalidTaskError(
            f"task {task!r}: the parameters of {handler!r} cannot be read; wrap it in a function"
        ) from error
    inner = unwrapped(innermost)
    promised = _promised(inner)
    if isinstance(handler, FunctionType) and innermost is inner and promised is None:
        return handler

    def stub() -> None:
        raise AssertionError("unreachable: only described")

    functools.update_wrapper(stub, inner, updated=())
    del stub.__wrapped__  # type: ignore[attr-defined]
    stub.__module__ = str(getattr(inner, "__module__", None) or type(handler).__module__)
    stub.__signature__ = signature  # type: ignore[attr-defined]
    stub.__annotations__ = _hints(task, inner)
    if promised is not None:
        stub.__annotations__["return"] = promised
    return stub


def _hints(task: str, function: Any) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise InvalidTaskError(
            f"task {task!r}: {error}; annotations are resolved when the task is declared, so the name must "
            "exist by then, outside `if TYPE_CHECKING`"
        ) from error
    except TypeError:
        # Neither a function nor a module nor a class: annotations of its own are all that there may be.
        return dict(getattr(function, "__annotations__", None) or {})


def _promised(function: Any) -> Any | None:
    """Return what a plain function's awaitable results come to by its annotation; None: it returns none."""
    annotation = getattr(function, "__annotations__", {}).get("return")
    if isinstance(annotation, str):
        try:
            annotation = get_type_hints(function, include_extras=True).get("return")
        except Exception:
            # Told where the annotations are read.
            return None
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _PROMISES:
        return Any
    if isinstance(origin, type) and issubclass(origin, _PROMISES):
        return arguments[-1] if arguments else Any
    return None
