"""Methods that are awaited, made into methods that block."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal

from pgqueue.blocking.lending import Hand, LentConnection
from pgqueue.database.callers import here_of
from pgqueue.errors import NotOpenError

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
F = TypeVar("F", bound="Facade")

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
        return self.opened().call(call)

    def opened(self) -> BlockingPortal:
        """Return the way into it. Raises NotOpenError."""
        if self.portal is None:
            raise NotOpenError("this BlockingPgQueue is not open: use it inside `with BlockingPgQueue(pgq):`")
        return self.portal

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
    """Return *method*, to be called without `await`: with a synchronous connection, if it takes one.

    Handles that it returns are those of pgqueue.blocking.
    """

    @functools.wraps(method)
    def call(self: Facade, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        given: Any = kwargs
        if given.get("connection") is None:
            value = self.loop.call(lambda: method(self.behind, *args, **kwargs))
        else:
            hand, portal = Hand(), self.loop.opened()
            given["connection"] = LentConnection(hand, here_of(method.__name__, given["connection"]))
            value = hand.call(portal, lambda: method(self.behind, *args, **kwargs))
        return before(self.loop, value)

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


def made(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Facade, P], Any]:
    """Return *method*, which makes a handle or a builder without a call: that of pgqueue.blocking."""

    @functools.wraps(method)
    def make(self: Facade, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        return before(self.loop, method(self.behind, *args, **kwargs))

    return make


def told(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Facade, P], T]:
    """Return *method*, which waits for nothing, but must be called in the loop."""

    @functools.wraps(method)
    def tell(self: Facade, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async def call() -> T:
            return method(self.behind, *args, **kwargs)

        return self.loop.call(call)

    return tell


def entered(
    method: Callable[Concatenate[Any, P], AbstractAsyncContextManager[Any]], facade: Callable[[Loop, Any], F]
) -> Callable[Concatenate[Facade, P], AbstractContextManager[F]]:
    """Return *method*, whose block is entered by a plain `with`, and gives *facade* of its value."""

    @functools.wraps(method)
    def enter(self: Facade, /, *args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[F]:
        async def make() -> AbstractAsyncContextManager[Any]:
            return method(self.behind, *args, **kwargs)

        return _block(self.loop, self.loop.call(make), facade)

    return enter


@contextmanager
def _block(
    loop: Loop, awaited: AbstractAsyncContextManager[Any], facade: Callable[[Loop, Any], F]
) -> Iterator[F]:
    with loop.opened().wrap_async_context_manager(awaited) as value:
        yield facade(loop, value)


FACADES: Final[dict[type, Callable[[Loop, Any], Facade]]] = {}
"""What stands before objects that have methods to await, by their classes."""


def before(loop: Loop, value: Any) -> Any:
    """Return what stands before *value*, or before each of a list; other values are returned as they are."""
    if isinstance(value, list):
        return [before(loop, each) for each in value]
    facade = FACADES.get(type(value))
    return value if facade is None else facade(loop, value)
