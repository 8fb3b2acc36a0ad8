"""Limiters: what a handler holds, or counts, in its middle. Knows no database: see JobServices.

A slot belongs to the attempt, and only while that is running: so nothing is left over where a job ends,
however it ends, and no slot has a time of its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from datetime import timedelta
from hashlib import sha256
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, TypeVar
from uuid import UUID

from pgqueue.errors import ContextError, LeaseLostError, LimiterFullError
from pgqueue.model.checks import Duration, flag, integer, number, patience, text
from pgqueue.own_tasks import current_attempt

T = TypeVar("T")

MAX_NAME: Final = 200
MAX_SLOTS: Final = 10_000
"""Slots of one name: each call looks at all that are held."""
LEAST_PERIOD: Final = 0.01
MOST_PERIOD: Final = 1e9
INTERRUPTIBLE: Final = 0.05
"""Seconds after which a thread that waits can be told of its soft time limit."""


class Allowed(NamedTuple):
    """How much of what: `most` slots, or `most` times in each `period` seconds."""

    kind: Literal["slots", "bucket", "window"]
    name: str
    most: int
    period: float | None = None

    @property
    def id(self) -> UUID:
        """The id of its row in the database, as pgqueue.key_id makes it."""
        return UUID(bytes=sha256(f"limiter/{self.kind}\0{self.name}".encode()).digest()[:16])

    def __str__(self) -> str:
        return (
            f"mutex {self.name!r}"
            if (self.kind, self.most) == ("slots", 1)
            else f"{_WORDS[self.kind]} {self.name!r}"
        )


_WORDS: Final = {"slots": "concurrent limiter", "bucket": "bucket", "window": "window"}


class _Entry:
    """A block of a limiter that was entered."""

    __slots__ = ("allowed", "attempt", "hold", "is_left", "limiter")

    def __init__(self, limiter: Limiter, allowed: Allowed, attempt: Any, hold: UUID | None) -> None:
        self.limiter = limiter
        self.allowed = allowed
        self.attempt = attempt
        self.hold = hold
        self.is_left = False


_entries: Final[ContextVar[tuple[_Entry, ...]]] = ContextVar("pgqueue_limiters", default=())
"""The blocks around this code. Tasks that are started inside one inherit it."""


class Limiter:
    """What a handler enters with `async with`, or with `with` if it is not async.

    Made by `PgQueue.mutex`, `concurrent`, `bucket` and `window`. One object serves any number of jobs at
    once. Gives whether there was room: False only with `raise_on_failure=False`.
    """

    __slots__ = ("_allowed", "_host", "_raises", "_wait")

    def __init__(self, host: object, allowed: Allowed, wait: float | None, *, raises: bool) -> None:
        self._host = host
        self._allowed = allowed
        self._wait = wait
        self._raises = raises

    async def __aenter__(self) -> bool:
        attempt = self._attempt()
        return self._entered(attempt, await attempt.services.enter(self._allowed, self._wait))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entry = self._left()
        if entry.hold is not None:
            await entry.attempt.services.leave(entry.hold)

    def __enter__(self) -> bool:
        attempt = self._attempt()
        self._check_thread()
        services = attempt.services
        return self._entered(attempt, _call(attempt, lambda: services.enter(self._allowed, self._wait)))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entry = self._left()
        hold, services = entry.hold, entry.attempt.services
        if hold is not None:
            _call(entry.attempt, lambda: services.leave(hold))

    def _attempt(self) -> Any:
        """Return the attempt whose handler this runs in. Raises ContextError."""
        attempt = current_attempt.get()
        if attempt is None:
            raise ContextError(
                f"{self._allowed} was used outside of a job: it is held by the job that is running; use it "
                "in a handler, or limit whole jobs with pgq.limit()"
            )
        if attempt.definition is None or attempt.definition.host is not self._host:
            raise ContextError(
                f"{self._allowed} belongs to another PgQueue than job {attempt.claimed.id}: make it by the "
                "PgQueue that declares the job's task"
            )
        if self._is_held and any(
            entry.attempt is attempt and not entry.is_left and entry.allowed.id == self._allowed.id
            for entry in _entries.get()
        ):
            raise ContextError(
                f"{self._allowed} is held by this block of job {attempt.claimed.id} already, and would wait "
                "for itself; enter it once"
            )
        return attempt

    def _check_thread(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise ContextError(f"{self._allowed}: `with` blocks the event loop; use `async with`")

    def _entered(self, attempt: Any, entered: tuple[UUID | None, float | None]) -> bool:
        hold, retry_after = entered
        if hold is None and self._raises:
            raise LimiterFullError(str(self._allowed), self._allowed.name, self._wait, retry_after)
        _entries.set((*_entries.get(), _Entry(self, self._allowed, attempt, hold if self._is_held else None)))
        return hold is not None

    @property
    def _is_held(self) -> bool:
        """Whether there is something to be given back."""
        return self._allowed.kind == "slots"

    def _left(self) -> _Entry:
        """Return the innermost block of this limiter, which is left now. Raises ContextError."""
        entries = _entries.get()
        for number_ in range(len(entries) - 1, -1, -1):
            entry = entries[number_]
            if entry.limiter is self and not entry.is_left:
                entry.is_left = True
                _entries.set((*entries[:number_], *entries[number_ + 1 :]))
                return entry
        raise ContextError(f"{self._allowed} was left in another asyncio task than it was entered in")

    def __repr__(self) -> str:
        return f"<{self._allowed}>"


def slots(
    host: object, what: str, name: object, most: object, wait: object, raise_on_failure: object
) -> Limiter:
    """Return a limiter of slots. Raises InvalidOptionError."""
    allowed = Allowed("slots", _name(what, name), integer(f"{what}: slots", most, least=1, most=MAX_SLOTS))
    return _limiter(host, what, allowed, wait, raise_on_failure)


def times(
    host: object,
    what: Literal["bucket", "window"],
    name: object,
    most: object,
    per: Duration,
    wait: object,
    raise_on_failure: object,
) -> Limiter:
    """Return a limiter of times in a period. Raises InvalidOptionError."""
    seconds = per.total_seconds() if isinstance(per, timedelta) else per
    period = number(f"{what}: per", seconds, unit="seconds", least=LEAST_PERIOD, most=MOST_PERIOD)
    allowed = Allowed(what, _name(what, name), integer(f"{what}: limit", most, least=1), period)
    return _limiter(host, what, allowed, wait, raise_on_failure)


def _name(what: str, name: object) -> str:
    return text(f"the name of a {what}", name, longest=MAX_NAME)


def _limiter(host: object, what: str, allowed: Allowed, wait: object, raise_on_failure: object) -> Limiter:
    return Limiter(
        host,
        allowed,
        patience(f"{what}: wait", wait),
        raises=flag(f"{what}: raise_on_failure", raise_on_failure),
    )


def _call(attempt: Any, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Return what *call* comes to in the worker's loop, for a handler in a thread.

    In short waits: what interrupts a thread (its soft time limit) does so between two of them.
    """
    while attempt.runner is None:
        # It is starting the attempt, in another thread.
        time.sleep(0.001)
    loop: asyncio.AbstractEventLoop = attempt.runner.get_loop()
    coroutine = call()
    try:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError as error:
        coroutine.close()
        raise LeaseLostError(f"job {attempt.claimed.id}: its worker has ended") from error
    try:
        while not concurrent.futures.wait((future,), INTERRUPTIBLE).done and not loop.is_closed():
            pass
    except BaseException:
        future.cancel()
        raise
    if not future.done():
        raise LeaseLostError(f"job {attempt.claimed.id}: its worker has ended")
    return future.result()
