"""Runs the coroutine of one call in the thread of its caller, in an event loop that stops for each step.

What a coroutine has that thread do, a statement on its connection say, is done while the loop does not run:
so it is done by code without asyncio, as its libraries see it. That takes no other thread, and leaves nothing
behind that a process which forks would have to give up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anyio.from_thread import start_blocking_portal

from pgqueue.blocking.lending import Hand

T = TypeVar("T")


class _InterruptedError(Exception):
    """Ends the coroutine of a call whose thread is interrupted."""


def call_here(call: Callable[[Hand], Coroutine[Any, Any, T]]) -> T:
    """Return what *call* comes to, which has the hand that it is given do things in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _Turns().play(call)
    # Two event loops do not run in one thread.
    hand = Hand()
    with start_blocking_portal() as portal:
        return hand.call(portal, lambda: call(hand))


class _Turns(Hand):
    """A hand and an event loop that take turns."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: tuple[Callable[[], Any], asyncio.Future[Any]] | None = None

    def play(self, call: Callable[[Hand], Coroutine[Any, Any, T]]) -> T:
        interruption: BaseException | None = None
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            loop = runner.get_loop()
            task = loop.create_task(call(self))
            task.add_done_callback(lambda _: loop.stop())
            while not task.done():
                try:
                    loop.run_forever()
                    self._do_asked()
                except BaseException as error:
                    # A signal's. The connection is left as it was: so the call ends first.
                    interruption = error
                    task.cancel()
            if interruption is not None:
                raise interruption
            return task.result()

    def _do_asked(self) -> None:
        if self._asked is None:
            return
        (function, done), self._asked = self._asked, None
        try:
            value = function()
        except Exception as error:
            done.set_exception(error)
        except BaseException:
            # Raised in the event loop it would end that.
            done.set_exception(_InterruptedError())
            raise
        else:
            done.set_result(value)

    async def run(self, function: Callable[[], T]) -> T:
        """Run *function* in the thread of the call, between two turns of the loop; return what it returns."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._asked = function, done
        loop.stop()
        try:
            return await done
        finally:
            # Of a call that was interrupted before, nothing more is done.
            self._asked = None
