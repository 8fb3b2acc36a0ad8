"""Runs the steps of an attempt: each once per job, because its result is stored and returned from then on.

A name can be used once in an attempt. Returning the stored result to a loop that forgot to name its steps
apart would skip work in silence.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import anyio.to_thread

from pgqueue.database.patience import persist
from pgqueue.database.pool import Database
from pgqueue.errors import (
    CodecError,
    DatabaseUnavailableError,
    InvalidStepError,
    InvalidTaskError,
    LeaseLostError,
)
from pgqueue.store import NO_PLACE, Place, Store, StoredStep
from pgqueue.tasks.around import around_step
from pgqueue.tasks.codec import Codec, encode_document
from pgqueue.tasks.refusals import THEIRS, describe_mismatch
from pgqueue.tasks.return_value import Result
from pgqueue.worker.services.step_order import StepOrder

MAX_STEPS: Final = 10_000
"""Names of steps and waits of one attempt: each run of the handler reads all that is stored."""


class Steps:
    """The steps of one attempt. Stored results are read once, when the first step is run."""

    def __init__(
        self,
        database: Database,
        store: Store,
        *,
        codec: Codec | None,
        result_limit: int,
        job_id: UUID,
        lease_id: UUID,
        arguments: str,
    ) -> None:
        self._database = database
        self._store = store
        self._codec = codec
        self._result_limit = result_limit
        self._job_id = job_id
        self._lease_id = lease_id
        self._names: set[str] = set()
        self._stored: dict[str, StoredStep] | None = None
        self._order = StepOrder(job_id, arguments)
        self._reading = asyncio.Lock()

    async def run(
        self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Return the stored result of step *name*, or call *fn* and store it. See JobContext.step."""
        result = self._result_of(name, fn)
        stored, place = await self.begin("step", name)
        if stored is None:
            try:
                around, call = around_step.get(), functools.partial(_call, fn, args, kwargs)
                value = await (call() if around is None else around(name, call))
            except BaseException:
                self._names.discard(name)
                self._order.has_failed()
                raise
            try:
                stored = await self._record(name, self._encoded(name, result, value), place)
            except BaseException:
                self._order.has_failed()
                raise
        return self._decoded(name, result, stored)

    async def begin(self, kind: str, *names: str) -> tuple[str | None, Place]:
        """Use names, each for the first time in this attempt; return what is stored under the first.

        And its place among the steps of the job. Raises InvalidStepError, StepOrderError.
        """
        for name in names:
            if name in self._names:
                raise self._invalid(name, "already ran in this attempt; each step needs a unique name")
        self._names.update(names)
        stored = await self._read()
        if len(self._names) > MAX_STEPS:
            raise self._invalid(
                names[0],
                f"a job can have {MAX_STEPS:,} steps; begin anew with `raise ctx.restart(...)`",
            )
        known = stored.get(names[0])
        place = self._order.come_to(names[0], kind, known)
        return None if known is None else known.result, place

    async def stored(self, name: str) -> str | None:
        """Return what is stored under a name; None: nothing."""
        known = (await self._read()).get(name)
        return None if known is None else known.result

    async def record(self, name: str, document: str) -> str:
        """Store a document under a name, unless there is one; return what is stored.

        Raises LeaseLostError.
        """
        stored = await self._record(name, document, NO_PLACE)
        (await self._read())[name] = StoredStep(stored, NO_PLACE)
        return stored

    def _result_of(self, name: str, fn: Callable[..., Any]) -> Result:
        if not callable(fn):
            raise self._invalid(name, f"{fn!r} is not a function; pass a function and its arguments")
        try:
            return Result(f"step {name!r}", _annotated(fn))
        except InvalidTaskError as error:
            raise self._invalid(name, f"{error}; wrap it in a function whose result can be stored") from error

    async def _read(self) -> dict[str, StoredStep]:
        async with self._reading:
            if self._stored is None:
                # What keeps a job from its steps is no error of the job's, so it waits.
                self._stored = await persist(
                    f"job {self._job_id}: reading its steps", self._fetch, errors=(DatabaseUnavailableError,)
                )
                self._order.expect(self._stored)
            return self._stored

    async def _fetch(self) -> dict[str, StoredStep]:
        async with self._database.acquire() as connection:
            return await self._store.read_steps(connection, self._job_id)

    async def _record(self, name: str, document: str, place: Place) -> str:
        tries = 0

        async def record() -> str | None:
            nonlocal tries
            tries += 1
            async with self._database.acquire() as connection:
                stored = await self._store.record_step(
                    connection, self._job_id, self._lease_id, name, document, place
                )
                if tries > 1:
                    # An earlier try may have been cut off while it waited for a standby.
                    await self._store.reach_standby(connection)
                return stored

        # The function has run, so its result is worth waiting for, however long the database is unavailable.
        # The lease or the time limit ends the wait.
        stored = await persist(f"job {self._job_id}: storing step {name!r}", record)
        if stored is None:
            raise LeaseLostError(
                f"job {self._job_id}: the lease was lost before the result of step {name!r} was stored; "
                "another attempt will run the step again"
            )
        return stored

    def _encoded(self, name: str, result: Result, value: Any) -> str:
        try:
            return encode_document(self._codec, result.encode(value, limit=self._result_limit))
        except THEIRS as error:
            # The codec is the user's: it may raise anything.
            raise self._invalid(name, f"ran, but its result cannot be stored: {error}") from error

    def _decoded(self, name: str, result: Result, stored: str) -> Any:
        try:
            return result.decode(stored if self._codec is None else self._codec.decode(stored))
        except THEIRS as error:
            # pydantic's, if the annotation has changed; or the codec's, which may be any.
            why = f"{describe_mismatch(error)}; it has run, and does not run again"
            # Not chained: pydantic's says the value, which may be secret, and tracebacks are stored.
            raise CodecError(self._job_id, f"result of step {name!r}", why) from None

    def _invalid(self, name: str, problem: str) -> InvalidStepError:
        return InvalidStepError(f"job {self._job_id}: step {name!r}: {problem}")


async def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call *fn*: on the loop if it is a coroutine function, otherwise in a thread, because it may block."""
    if inspect.iscoroutinefunction(fn):
        return await fn(*args, **kwargs)
    call = functools.partial(fn, *args, **kwargs)
    value = await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
    # A lambda around a coroutine function, say.
    return await value if inspect.isawaitable(value) else value


def _annotated(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return what carries the annotations of *fn*."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn if inspect.isroutine(fn) else type(fn).__call__
