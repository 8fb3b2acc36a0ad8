"""What a worker does for an actor: its function, called as Dramatiq calls it, and what is around it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from pgqueue import JobContext, Middleware, Reject, current_job
from pgqueue.compat.dramatiq import state
from pgqueue.compat.dramatiq.errors import Retry, SkipMessage, TimeLimitExceeded
from pgqueue.compat.dramatiq.headers import FEEDS, PLACE, options_in
from pgqueue.compat.dramatiq.message import Message
from pgqueue.compat.dramatiq.middleware import emit, logger
from pgqueue.compat.dramatiq.options import milliseconds, plain

FAILURES: Final = (Exception, TimeLimitExceeded)
"""What an actor raises when it fails; an exceeded time limit is no Exception."""


class MessageProxy:
    """A message while it is processed."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self.failed = False

    def fail(self) -> None:
        """Have the message fail, and not be retried."""
        self.failed = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)

    def __str__(self) -> str:
        return str(self._message)


class Processing:
    """One message that a worker is processing."""

    def __init__(self, actor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ctx = current_job()
        headers = ctx.headers
        bound = inspect.signature(actor.fn).bind(*args, **kwargs)
        args, kwargs = bound.args, bound.kwargs
        if PLACE in headers:
            # pgqueue puts the result of the job before first, and Dramatiq last.
            place = int(headers[PLACE])
            args = (*args[1 : place + 1], args[0], *args[place + 1 :])
        self.args, self.kwargs = args, kwargs
        self.actor, self.ctx = actor, ctx
        self.keeps_result = FEEDS in headers or actor.broker.stores_result_of(
            actor.options | options_in(headers)
        )
        created = ctx.created_at
        self.message = Message(
            ctx.queue,
            actor.actor_name,
            args,
            kwargs,
            {**options_in(headers), "retries": ctx.retries},
            ctx.key or str(ctx.job_id),
            0 if created is None else int(created.timestamp() * 1000),
        )
        self.proxy = MessageProxy(self.message)
        actor.broker.processing[ctx.job_id] = self.message

    def before(self) -> bool:
        """Call the hooks before the actor; False: it is skipped."""
        broker = self.actor.broker
        try:
            emit(broker.middleware, "before_process_message", broker, self.proxy)
        except SkipMessage:
            emit(reversed(broker.middleware), "after_skip_message", broker, self.proxy)
            self._check_failed()
            return False
        self._check_failed()
        return True

    def after(self, result: Any, exception: BaseException | None) -> None:
        """Call the hooks after the actor."""
        broker = self.actor.broker
        told = {"result": result, "exception": exception}
        emit(reversed(broker.middleware), "after_process_message", broker, self.proxy, **told)
        self._check_failed()

    def kept(self, result: Any) -> Any:
        """Return what is stored of the actor's result."""
        if not self.keeps_result:
            return None
        # As Dramatiq's encoder has it: a tuple comes back as a list, and keys as text.
        with suppress(TypeError, ValueError):
            return plain(result)
        # pgqueue says that it cannot be stored, and does not run the actor again.
        return result

    def _check_failed(self) -> None:
        if self.proxy.failed:
            raise Reject(f"a middleware has failed {self.message}")

    @contextmanager
    def as_current(self) -> Iterator[None]:
        """Have it be the current message inside the block."""
        token = state.processed.set((self.message, self.actor.broker))
        try:
            yield
        finally:
            state.processed.reset(token)


def handler_of(actor: Any) -> Any:
    """Return the handler of an actor's task: its parameters have the actor's names, and take any JSON."""
    function = actor.fn

    async def run_async(*args: Any, **kwargs: Any) -> Any:
        processing = Processing(actor, args, kwargs)
        with processing.as_current():
            if not processing.before():
                return None
            try:
                result = await function(*processing.args, **processing.kwargs)
            except FAILURES as error:
                processing.after(None, error)
                raise
            processing.after(result, None)
        return processing.kept(result)

    def run(*args: Any, **kwargs: Any) -> Any:
        processing = Processing(actor, args, kwargs)
        with processing.as_current():
            if not processing.before():
                return None
            try:
                result = function(*processing.args, **processing.kwargs)
            except FAILURES as error:
                processing.after(None, error)
                raise
            processing.after(result, None)
        return processing.kept(result)

    handler: Any = run_async if inspect.iscoroutinefunction(function) else run
    handler.__name__ = handler.__qualname__ = getattr(function, "__name__", actor.actor_name)
    handler.__module__ = getattr(function, "__module__", __name__)
    handler.__doc__ = getattr(function, "__doc__", None)
    # Without annotations: Dramatiq hands over what JSON makes of arguments.
    parameters = [each.replace(annotation=Any) for each in inspect.signature(function).parameters.values()]
    handler.__signature__ = inspect.Signature(parameters)
    return handler


class Around(Middleware):
    """What a broker has around its jobs and its workers."""

    def __init__(self, broker: Any) -> None:
        self._broker = broker
        self._has_booted = False

    async def boot(self, worker: str) -> None:
        """Call the hooks of workers that start."""
        if not self._has_booted:
            self._has_booted = True
            emit(self._broker.middleware, "after_process_boot", self._broker)
        emit(self._broker.middleware, "before_worker_boot", self._broker, worker)
        emit(reversed(self._broker.middleware), "after_worker_boot", self._broker, worker)

    async def shutdown(self, worker: str) -> None:
        """Call the hooks of workers that stop."""
        emit(self._broker.middleware, "before_worker_shutdown", self._broker, worker)
        emit(reversed(self._broker.middleware), "after_worker_shutdown", self._broker, worker)

    async def run(self, ctx: JobContext[Any], proceed: Callable[[], Awaitable[Any]]) -> Any:
        """Call the actor, and send what it asks for after a success or a failure."""
        actor = self._broker.actors.get(ctx.task)
        try:
            result = await proceed()
        except FAILURES as error:
            message = self._broker.processing.pop(ctx.job_id, None)
            if message is not None:
                await self._failed(actor, message, ctx, error)
            if isinstance(error, Retry) and error.delay is not None:
                ctx.retry(exc=error, countdown=milliseconds("Retry: delay", error.delay))
            raise
        finally:
            message = self._broker.processing.pop(ctx.job_id, None)
        if message is not None:
            await self._send(_target("on_success", message, actor), message.asdict(), result)
        return result

    async def _failed(self, actor: Any, message: Message, ctx: JobContext[Any], error: BaseException) -> None:
        told = {"type": type(error).__name__, "message": str(error)}
        await self._send(_target("on_failure", message, actor), message.asdict(), told)
        target = _target("on_retry_exhausted", message, actor)
        if target is not None and _is_exhausted(actor, ctx, error):
            most = message.options.get("max_retries", actor.options.get("max_retries"))
            await self._send(target, message.asdict(), {"retries": ctx.retries, "max_retries": most})

    async def _send(self, target: str | None, *args: Any) -> None:
        if target is None:
            return
        try:
            actor = self._broker.get_actor(target)
            await self._broker.pgqueue.enqueue(actor.task.s(*plain(args)))
        except Exception:
            # As in Dramatiq: what was done is not done again because of what comes after it.
            logger.exception("no message was sent to %r", target)


def _target(name: str, message: Message, actor: Any) -> str | None:
    """Return the name of the actor that is sent a message about another one."""
    target = message.options.get(name) or actor.options.get(name)
    name_of: str | None = getattr(target, "actor_name", target)
    return name_of


def _is_exhausted(actor: Any, ctx: JobContext[Any], error: BaseException) -> bool:
    throws = actor.options.get("throws")
    if throws and isinstance(error, throws):
        return False
    retry_when = actor.options.get("retry_when")
    return ctx.is_last_attempt if retry_when is None else not retry_when(ctx.retries, error)
