"""Whatever a middleware raises, wherever it does, the workers go on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from kit.waiting import eventually

from pgqueue import JobFailed, Middleware, PgQueue, WorkerLifespanError, chain

ERRORS: dict[str, Callable[[], BaseException]] = {
    "an error": lambda: OSError("from a middleware"),
    "an error group": lambda: ExceptionGroup("from a middleware", [OSError("one")]),
    "an exit": lambda: SystemExit("from a middleware"),
    "an interrupt": lambda: KeyboardInterrupt("from a middleware"),
    "a cancellation": lambda: asyncio.CancelledError("from a middleware"),
    "the end of a generator": lambda: GeneratorExit("from a middleware"),
    "the end of an iteration": lambda: StopAsyncIteration("from a middleware"),
}


class Raising(Middleware):
    """Raises in one of its methods, before or behind what it wraps, while it is armed."""

    def __init__(self, hook: str, *, behind: bool) -> None:
        self.hook = hook
        self.behind = behind
        self.error: str | None = None
        self.raised: Counter[str] = Counter()

    @contextmanager
    def armed(self, error: str) -> Iterator[None]:
        self.error = error
        try:
            yield
        finally:
            self.error = None

    def _raise(self, hook: str, *, behind: bool) -> None:
        if self.error is not None and hook == self.hook and behind == self.behind:
            self.raised[self.error] += 1
            make = ERRORS[self.error]
            raise make()

    async def enqueue(self, calls: Any, proceed: Any) -> Any:
        self._raise("enqueue", behind=False)
        handles = await proceed(calls)
        self._raise("enqueue", behind=True)
        return handles

    async def workflow(self, proceed: Any) -> Any:
        self._raise("workflow", behind=False)
        handle = await proceed({})
        self._raise("workflow", behind=True)
        return handle

    async def claim(self, free: int, proceed: Any) -> None:
        self._raise("claim", behind=False)
        await proceed()
        self._raise("claim", behind=True)

    async def run(self, ctx: Any, proceed: Any) -> Any:
        self._raise("run", behind=False)
        value = await proceed()
        self._raise("run", behind=True)
        return value

    async def finish(self, job: Any, outcome: Any) -> Any:
        self._raise("finish", behind=False)
        return outcome

    async def boot(self, worker: str) -> None:
        self._raise("boot", behind=False)

    async def shutdown(self, worker: str) -> None:
        self._raise("shutdown", behind=False)


PLACES = [
    *((hook, behind) for hook in ("enqueue", "workflow", "claim", "run") for behind in (False, True)),
    *((hook, False) for hook in ("finish", "boot", "shutdown")),
]


@pytest.mark.contract("P8.3")
@pytest.mark.parametrize(
    ("hook", "behind"), [pytest.param(*place, id=place[0] + "-behind" * place[1]) for place in PLACES]
)
async def test_no_error_of_a_middleware_stops_the_workers(pgq: PgQueue, hook: str, *, behind: bool) -> None:
    raising = pgq.middleware(Raising(hook, behind=behind))

    @pgq.task(max_retries=0)
    async def work(number: int = 0) -> int:
        return number

    async def enqueue_with(error: str) -> None:
        call: Any = work.s(1) if hook == "enqueue" else chain(work.s(1), work.si(2))
        with raising.armed(error), pytest.raises(BaseException, match="from a middleware"):
            await pgq.enqueue(call) if hook == "enqueue" else await call.enqueue()

    async def boot_with(error: str) -> None:
        message = "something cancelled it" if error == "a cancellation" else "from a middleware"
        with raising.armed(error), pytest.raises(WorkerLifespanError, match=message):
            async with pgq.worker():
                raise AssertionError("unreachable")

    async def shut_down_with(error: str) -> None:
        # Whoever runs the worker is told; that it was cancelled is no error.
        is_told = error != "a cancellation"
        expected = (
            pytest.raises(WorkerLifespanError, match="no job is concerned") if is_told else nullcontext()
        )
        with raising.armed(error), expected:
            async with pgq.worker():
                assert await (await work.enqueue(1)).result(timeout=60) == 1

    async def run_with(error: str) -> None:
        with raising.armed(error):
            job = await work.enqueue(1)
            if hook == "run":
                with pytest.raises(JobFailed):
                    await job.result(timeout=60)
            else:
                assert await job.result(timeout=60) == 1
            await eventually(lambda: has_raised(error))

    async def has_raised(error: str) -> bool:
        return raising.raised[error] > 0

    outside: dict[str, Callable[[str], Awaitable[None]]] = {
        "enqueue": enqueue_with,
        "workflow": enqueue_with,
        "boot": boot_with,
        "shutdown": shut_down_with,
    }
    for error in ERRORS if hook in outside else ():
        await outside[hook](error)
    async with pgq.worker(poll_interval=0.05) as worker:
        for error in ERRORS if hook not in outside else ():
            await run_with(error)
        # By the worker that saw the errors.
        assert await (await work.enqueue(2)).result(timeout=60) == 2
        assert await (await chain(work.s(3), work.si(4)).enqueue()).result(timeout=60) == 4
        assert worker.is_alive

    assert raising.raised.keys() == ERRORS.keys()
    assert pgq.background_problems() == []
