"""Enqueues jobs of all kinds, and notes what it means to do and what was acknowledged.

`python -m faults.enqueuer '{"rate": 80, "seconds": 60, "mix": {"plain": 5}, "longest": 0.05, "first": 0}'`
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any
from uuid import uuid4

import asyncpg

from faults import app
from faults.app import notebook, pgq
from faults.load import Load
from pgqueue import DatabaseUnavailableError, Signature, chain, chord

KEYS = ("a", "b", "c", "d")
CALLERS = 4
CALL_WITHIN = 30.0
"""Seconds after which a call on a connection of the caller's own is given up."""

SINGLES: dict[str, Callable[..., Signature[Any]]] = {
    "plain": app.plain.s,
    "thread": app.thread.s,
    "isolated": app.isolated.s,
    "once": app.once.s,
    "fragile": app.fragile.s,
    "money": app.money.s,
    "stepper": app.stepper.s,
    "flaky": app.flaky.s,
    "ordered": app.ordered.s,
    "limited": app.limited.s,
}


class Enqueuer:
    """Makes calls until its time is over, or the process is told to end."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._kinds = [kind for kind, weight in load.mix.items() for _ in range(weight)]
        self._random = random.Random(load.first)
        self._numbers = count(load.first)
        self._own: asyncpg.Connection[asyncpg.Record] | None = None
        self._own_lock = asyncio.Lock()
        self._is_to_stop = False

    def stop(self) -> None:
        """Make no more calls; those that are being made go on."""
        self._is_to_stop = True

    async def run(self) -> None:
        """Have several callers make calls at the rate that is wanted; none makes up for what it missed."""
        until = time.monotonic() + self._load.seconds
        await asyncio.gather(*(self._call_until(until) for _ in range(CALLERS)))
        notebook.note("enqueuer_done")

    async def _call_until(self, until: float) -> None:
        due = time.monotonic()
        while time.monotonic() < until and not self._is_to_stop:
            jobs = await self._call_once(self._random.choice(self._kinds))
            due = max(due + jobs * CALLERS / self._load.rate, time.monotonic() - 1)
            await asyncio.sleep(max(0, due - time.monotonic()))

    async def _call_once(self, kind: str) -> int:
        """Make a call; return how many jobs it is about."""
        call = uuid4().hex
        match kind:
            case "bulk":
                numbers = [next(self._numbers) for _ in range(10)]
                names = [self._random.choice(["plain", "ordered", "limited", "flaky"]) for _ in numbers]
            case "chord":
                numbers, names = [next(self._numbers) for _ in range(4)], []
            case _:
                numbers, names = [next(self._numbers)], [kind if kind in SINGLES else "plain"]
        calls = [self._signature(name, n) for name, n in zip(names, numbers, strict=False)]
        keys = [signature.kwargs.get("key") for signature in calls]
        idempotency_key = f"key-{numbers[0] // 3}" if kind == "keyed" else None
        notebook.note("intent", call=call, task=kind, ns=numbers, keys=keys, key=idempotency_key)
        began = time.monotonic()
        try:
            ids = await self._enqueue(kind, calls, numbers, idempotency_key)
        except Exception as error:
            notebook.note(
                "refused",
                call=call,
                error=type(error).__name__,
                text=str(error)[:300],
                seconds=time.monotonic() - began,
                may_have_happened=getattr(error, "may_have_happened", True),
            )
            return len(numbers)
        notebook.note("acknowledged", call=call, ids=ids, seconds=time.monotonic() - began)
        if kind == "cancelled":
            await self._cancel(ids[0])
        return len(numbers)

    def _signature(self, name: str, n: int) -> Signature[Any]:
        seconds = self._random.uniform(0, self._load.longest)
        if name in {"ordered", "limited"}:
            return SINGLES[name](n=n, seconds=seconds / 4, key=self._random.choice(KEYS))
        return SINGLES[name](n=n, seconds=seconds)

    async def _enqueue(
        self, kind: str, calls: Sequence[Signature[Any]], numbers: Sequence[int], key: str | None
    ) -> list[str]:
        """Make the call; return the ids that were acknowledged."""
        n = numbers[0]
        if kind == "chain":
            first = app.plain.s(n=n, seconds=0.01)
            made = await chain(first, *(app.link.s(seconds=0.01) for _ in range(3))).enqueue()
            return [str(made.id)]
        if kind == "chord":
            members = [app.plain.s(n=number, seconds=0.01) for number in numbers]
            made = await chord(members, app.body.s(expected=list(numbers))).enqueue()
            return [str(made.id)]
        if kind == "transaction":
            return [await self._in_own_transaction(n, calls[0])]
        if kind == "delayed":
            calls = [calls[0].set(delay=self._random.uniform(0.2, 3))]
        if kind == "cancelled":
            # Some before they start, some while they run.
            calls = [app.plain.s(n=n, seconds=5).set(delay=self._random.choice([0, 0, 2]))]
        if key is not None:
            calls = [app.plain.s(n=n // 3, seconds=0.01).set(idempotency_key=key)]
        return [str(handle.id) for handle in await pgq.enqueue_many(calls)]

    async def _in_own_transaction(self, n: int, call: Signature[Any]) -> str:
        """Write an order and enqueue its job in one transaction, which is sometimes rolled back."""
        async with self._own_lock, asyncio.timeout(CALL_WITHIN):
            if self._own is None or self._own.is_closed():
                # Behind a pooler, a statement that is kept would be looked for in another session.
                self._own = await asyncpg.connect(pgq.dsn, timeout=5, statement_cache_size=0)
            try:
                return await self._write_order(self._own, n, call)
            except RolledBackError:
                raise
            except BaseException:
                self._own.terminate()
                self._own = None
                raise

    async def _write_order(
        self, own: asyncpg.Connection[asyncpg.Record], n: int, call: Signature[Any]
    ) -> str:
        async with own.transaction():
            await own.execute("insert into public.orders (n) values ($1)", n)
            handle = await pgq.enqueue(call, connection=own)
            if n % 4 == 0:
                raise RolledBackError
        return str(handle.id)

    async def _cancel(self, job: str) -> None:
        await asyncio.sleep(self._random.uniform(0, 1))
        try:
            is_heard = await pgq.cancel(job)
        except DatabaseUnavailableError:
            return
        notebook.note("cancelled", job=job, is_heard=is_heard)


class RolledBackError(Exception):
    """The caller thought better of it: there is no job."""

    may_have_happened = False


async def main() -> None:
    """Enqueue what the command line says."""
    load = Load(**json.loads(sys.argv[1]))
    while True:
        try:
            await pgq.open()
            break
        except DatabaseUnavailableError:
            await asyncio.sleep(0.5)
    enqueuer = Enqueuer(load)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, enqueuer.stop)
    try:
        await enqueuer.run()
    finally:
        await pgq.close()
        notebook.note("exit", pid=os.getpid())


if __name__ == "__main__":
    asyncio.run(main())
