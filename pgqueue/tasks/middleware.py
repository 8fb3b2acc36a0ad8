"""What an application puts around enqueueing, claiming, running and finishing: to wrap or to change them.

Who only wants to know what happened observes events (`PgQueue.observe`): they cost a batch, and not a job.

    class Tenants(Middleware):
        async def run(self, ctx, proceed):
            with tenant(ctx.headers["tenant"]):
                return await proceed()

    pgq.middleware(Tenants())

The first one that is added is outermost. A method that a class does not override is not called, and without
middleware nothing is.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from pgqueue.errors import ConfigurationError
from pgqueue.model.checks import shown
from pgqueue.model.job_info import JobInfo
from pgqueue.model.outcomes import Ended, Outcome, Retried, Succeeded
from pgqueue.options.checks import headers as check_headers
from pgqueue.tasks.around import workflow_headers

if TYPE_CHECKING:
    from pgqueue.tasks.context import JobContext
    from pgqueue.tasks.handle import JobHandle
    from pgqueue.tasks.signature import Signature
    from pgqueue.tasks.workflow_handle import WorkflowHandle

logger = logging.getLogger("pgqueue.worker")

Proceed = Callable[[], Awaitable[Any]]
"""Calls what is inside: the next middleware, and at last the handler. Returns what it returns."""
Write = Callable[[Iterable["Signature[Any]"]], Awaitable["list[JobHandle[Any]]"]]
"""Enqueues calls; returns their handles, in their order."""
WriteWorkflow = Callable[[Mapping[str, str]], Awaitable["WorkflowHandle[Any]"]]
"""Enqueues a workflow whose jobs get headers; returns its handle."""
FINAL: Final = (Succeeded, Retried, Ended)
"""The outcomes that `finish` sees, and may return."""


class Claim(Protocol):
    """Claims up to *most* jobs, and never more than there are free slots for; None: for all of them."""

    def __call__(self, most: int | None = None, /) -> Awaitable[None]:
        """Claim."""


class Middleware:
    """Wraps what a PgQueue does in this process. Override what you need: `PgQueue.middleware` adds it."""

    async def enqueue(self, calls: Iterable[Signature[Any]], proceed: Write) -> list[JobHandle[Any]]:
        """Wrap each enqueue of this process: one job, or the many of `enqueue_many`.

            async def enqueue(self, calls, proceed):
                return await proceed(call.with_headers({"tenant": tenant()}) for call in calls)

        *calls* may come from a generator, and may be passed on as one. Pass on as many as there are, in their
        order. What this raises before it calls `proceed`, the caller gets, and nothing is enqueued.
        """
        return await proceed(calls)

    async def workflow(self, proceed: WriteWorkflow) -> WorkflowHandle[Any]:
        """Wrap each enqueue of a workflow in this process: a chain, a group, or a built one.

            async def workflow(self, proceed):
                return await proceed({"tenant": tenant()})

        Each job of the workflow gets the headers that are passed on, over which its own win. What this raises
        before it calls `proceed`, the caller gets, and nothing is enqueued. Workflows that handlers start get
        none.
        """
        return await proceed({})

    async def claim(self, free: int, proceed: Claim) -> None:
        """Wrap each look of a worker for jobs, for its *free* slots: claim fewer, or none for now.

            async def claim(self, free, proceed):
                if has_memory():
                    await proceed()

        A worker that claims nothing looks again after its poll interval. Nothing is claimed meanwhile, so
        return soon. What this raises is logged, and the worker claims as if it was not there.
        """
        await proceed(free)

    async def run(self, ctx: JobContext[Any], proceed: Proceed) -> Any:  # noqa: ARG002  # to be overridden
        """Wrap each call of a handler, and return the result of the job.

            async def run(self, ctx, proceed):
                with tracer.start_as_current_span(ctx.task):
                    return await proceed()

        It runs where an async handler does, within the time limits of the job; its dependencies are inside.
        Without `proceed()`, the handler is skipped. What this raises, the attempt has raised: an error, or
        Reject, Retry and Snooze. For tasks with `isolation="process"` it runs in the child process.
        """
        return await proceed()

    async def finish(self, job: JobInfo, outcome: Outcome) -> Outcome:  # noqa: ARG002  # the same
        """See how an attempt has ended before that is written, and return how it is to end.

            async def finish(self, job, outcome):
                if isinstance(outcome, Ended) and outcome.reason == "exception" and is_planned_outage():
                    return Retried(outcome.job_id, 3600.0, "outage", outcome.error)
                return outcome

        *outcome* is Succeeded, Retried or Ended (`pgqueue.events`), and one of these is to be returned. It is
        not called where the job returns to the queue or begins to wait. What this raises is logged, and the
        outcome stays. One that a child process has committed with its transaction stays as well.
        """
        return outcome

    async def boot(self, worker: str) -> None:
        """Prepare for *worker* (its name), before its lifespan and its first claim.

        What this raises stops the start: see `PgQueue.lifespan`.
        """

    async def shutdown(self, worker: str) -> None:
        """Clean up behind *worker*, after its last attempt and its lifespan. Called if `boot` succeeded."""


def overriding(middleware: Sequence[Middleware], method: str) -> tuple[Middleware, ...]:
    """Return those that override *method*: no other is called."""
    return tuple(
        each for each in middleware if getattr(type(each), method) is not getattr(Middleware, method)
    )


def check_middleware(middleware: object) -> Middleware:
    """Return *middleware*. Raises ConfigurationError for what is none, or wraps nothing."""
    if not isinstance(middleware, Middleware):
        raise ConfigurationError(
            f"middleware must be an object of a class derived from Middleware, got {shown(middleware)}"
        )
    if not any(overriding((middleware,), method) for method in METHODS):
        raise ConfigurationError(
            f"{shown(middleware)} is a middleware that overrides none of the methods: {', '.join(METHODS)}"
        )
    return middleware


METHODS: Final = ("enqueue", "workflow", "claim", "run", "finish", "boot", "shutdown")


async def around_run(middleware: Sequence[Middleware], ctx: JobContext[Any], handle: Proceed) -> Any:
    """Call *handle* inside all *middleware*."""
    call = handle
    for each in reversed(middleware):
        call = partial(each.run, ctx, call)
    return await call()


async def around_claim(middleware: Sequence[Middleware], free: int, claim: Claim) -> None:
    """Claim for *free* slots inside all *middleware*. No inner one is told of more than the one around it."""
    if not middleware:
        await claim(free)
        return
    [first, *others] = middleware

    async def proceed(most: int | None = None, /) -> None:
        await around_claim(others, free if most is None else max(0, min(most, free)), claim)

    await first.claim(free, proceed)


async def around_enqueue(
    middleware: Sequence[Middleware], calls: Iterable[Signature[Any]], write: Write
) -> list[JobHandle[Any]]:
    """Write *calls* inside all *middleware*."""
    for each in reversed(middleware):
        write = partial(_enqueue, each, write)
    return await write(calls)


async def _enqueue(
    middleware: Middleware, write: Write, calls: Iterable[Signature[Any]]
) -> list[JobHandle[Any]]:
    return await middleware.enqueue(calls, write)


async def around_workflow(
    middleware: Sequence[Middleware], write: Callable[[], Awaitable[WorkflowHandle[Any]]]
) -> WorkflowHandle[Any]:
    """Write a workflow inside all *middleware*."""
    if not middleware:
        return await write()
    [first, *others] = middleware

    async def proceed(headers: Mapping[str, str], /) -> WorkflowHandle[Any]:
        checked = check_headers("middleware: the headers of a workflow", headers)
        token = workflow_headers.set({**(workflow_headers.get() or {}), **checked})
        try:
            return await around_workflow(others, write)
        finally:
            workflow_headers.reset(token)

    return await first.workflow(proceed)


async def finish(middleware: Sequence[Middleware], job: JobInfo, outcome: Outcome) -> Outcome:
    """Return what *outcome* comes to. The innermost is asked first. Raises nothing."""
    for each in reversed(middleware):
        try:
            changed = await each.finish(job, outcome)
        except BaseException:
            # It is the user's: it may raise anything. A cancellation has been judged in the outcome already.
            logger.exception("job %s: middleware %r raised an error in finish; ignoring it", job.job_id, each)
            continue
        if isinstance(changed, FINAL) and changed.job_id == outcome.job_id:
            outcome = changed
        else:
            logger.error(
                "job %s: middleware %r returned %r from finish, which is no outcome of this job; ignoring it",
                job.job_id,
                each,
                changed,
            )
    return outcome
