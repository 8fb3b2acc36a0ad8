"""Methods that are awaited, made into methods that block."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal

from pgqueue.errors import ConfigurationError, NotOpenError

if TYPE_CHECKING:
    pass

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_END: Final = object()


class Facade:
    """What stands before an object of the event loop, and calls its methods there."""

    __slots__ = ("behind", "loop")

    def __init__(self, loop: Loop, behind: Any) -> None:
        self.loop = loop
        self.behind = behind


class Loop:
    """The event loop in its thread, while the block lasts."""

    def __init__(self) -> None:
        self.portal: BlockingPortal | None = None

    def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what a call comes to there."""
        if self.portal is None:
            raise NotOpenError("this BlockingPgQueue is not open: use it inside `with BlockingPgQueue(pgq):`")
        return self.portal.call(call)

    def iterate(self, values: AsyncIterator[T]) -> Iterator[T]:
        """Yield values one by one."""

        async def following() -> Any:
            return await anext(values, _END)

        try:
            while (value := self.call(following)) is not _END:
                yield value
        finally:
            close = getattr(values, "aclose", None)
            if close is not None and self.portal is not None:
                self.call(close)


def called(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Facade, P], T]:
    """Return *method*, to be called without `await`."""

    @functools.wraps(method)
    def call(self: Facade, /, *args: P.args, **kwargs: P.kwargs) -> T:
        _check_connection(method.__name__, kwargs)
        return self.loop.call(lambda: method(self.behind, *args, **kwargs))

    return call


def iterated(
    method: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Facade, P], Iterator[T]]:
    """Return *method*, to be used in a plain `for`."""

    @functools.wraps(method)
    def iterate(self: Facade, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        async def begin() -> AsyncIterator[T]:
            return method(self.behind, *args, **kwargs)

        return self.loop.iterate(self.loop.call(begin))

    return iterate


def _check_connection(name: str, given: dict[str, Any]) -> None:
    if given.get("connection") is not None:
        raise ConfigurationError(
            f"{name}: connection= works with asyncio alone, because an asyncpg connection belongs to its "
            "event loop; enqueue by SQL in your own transaction: `select pgqueue.enqueue(...)`"
        )
