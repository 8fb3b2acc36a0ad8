"""Pydantic AI: an agent whose model requests and tool calls are steps of a durable function.

    agent = Agent("openai:gpt-5", name="support", capabilities=[PgQueueDurability()])

    @pgq.task
    async def answer(question: str) -> str:
        return (await agent.run(question)).output

A handler that runs again, after a retry, a lost worker or a wait, gets from the agent what the model and the
tools said before: each of them is asked once per job. Outside of a job the agent works as any other.

Built on the interface that Pydantic AI has for engines of durable execution (`pydantic_ai.durable_exec`).
Steps of one job have different names, and the same ones in each attempt. So a step is named by the operation,
by the number of the run within the job, and by the id of the tool call, which the model chose in a step that
is stored: tools that run side by side may come to their steps in any order.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, Generic, Literal, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from pgqueue.errors import ContextError, InvalidStepError, WrongEventLoopError
from pgqueue.package import pip_install
from pgqueue.tasks.context import JobContext, current_job, running_attempt
from pgqueue.tasks.step_names import MAX_STEP_NAME

try:
    from pydantic_ai.agent import EventStreamHandler
    from pydantic_ai.durable_exec import (
        JSON_CODEC,
        BaseDurabilityCapability,
        BoundDurableOperation,
        DurabilityEngineSpec,
        DurableOperation,
        DurableOperationBackend,
        JournalOperationNamer,
        conversation_id_from_run_id,
        durable_unit_scope,
    )
    from pydantic_ai.models import Model
    from pydantic_ai.tools import AgentDepsT
    from pydantic_ai.toolsets import ToolsetTool
except ImportError as error:
    raise ImportError(
        f"pgqueue.integrations.pydantic_ai needs Pydantic AI 2.68 or newer: {pip_install('pydantic-ai')}"
    ) from error

P = ParamSpec("P")
R = TypeVar("R")
ParamsT = TypeVar("ParamsT")
WireT = TypeVar("WireT")
ResultT = TypeVar("ResultT")

METADATA_KEY: Final = "pgqueue"

_numbers: Final[WeakKeyDictionary[JobContext, Counter[str]]] = WeakKeyDictionary()
"""How often each name was given in an attempt, which has its context to itself."""
_is_in_step: Final[ContextVar[bool]] = ContextVar("pgqueue_agent_step", default=False)


class PgQueueDurability(BaseDurabilityCapability[AgentDepsT]):
    """Makes the runs of an agent durable where they are part of a job: see the top of this module.

    Give it to the agent when that is made, and give the agent a name: steps are stored under it. *models*:
    further models by name, for runs that choose theirs: a run takes the name (`agent.run(model="large")`),
    because a model that was made for one run cannot be made again. *event_stream_handler*: called with what
    the model streams, in the step that asks it, and with each tool event, in a step of its own. *name*: the
    name of the agent's steps, by default the agent's.

    A tool with `metadata={"pgqueue": False}` is called outside of steps: again in each attempt.

    Raises pydantic_ai's UserError: for an agent without a name, a toolset without an `id`, and in a job for
    toolsets that are given to the run instead of the agent.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="pgqueue",
        durable_unit_noun="step",
        durable_container_noun="job",
        codec=JSON_CODEC,
        serialization_failure=lambda error: InvalidStepError(
            f"a step of an agent ran, but its result cannot be stored: {error}"
        ),
        toolset_lifecycles={
            "function": "enter-always",
            "mcp": "enter-in-durable-unit",
            "dynamic": "enter-never",
        },
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        tool_config_key=METADATA_KEY,
    )

    def __init__(
        self,
        *,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)

    @property
    def in_durable_context(self) -> bool:
        """Whether this runs in a job. Not in a step: what runs there is part of that step."""
        return running_attempt.get() is not None and not _is_in_step.get()

    def get_default_run_id(self) -> str | None:
        """Return the id of a run: the same in each attempt of the job."""
        if not self.in_durable_context:
            return None
        context = current_job()
        return f"{context.job_id}:{_next(context, 'run')}"

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """Return the id of a run's conversation: the same in each attempt of the job."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    async def get_run_start_time(self, run_id: str) -> datetime | None:
        """Return when a run with a `timeout` began in the first attempt that came to it."""
        if not self.in_durable_context:
            return None
        context = current_job()
        return await _run_step(context, _step_name(context, f"{self.name}__run_start", run_id, None), _now)

    def get_durable_operation_backend(self) -> DurableOperationBackend[Any]:
        """Return what makes steps of the agent's operations."""
        return _Backend(self.name, self.default_model_id)


class _Backend(DurableOperationBackend[Any]):
    """Binds the operations of one agent to steps of the job that is running."""

    def __init__(self, agent: str, default_model: str | None) -> None:
        self._namer = JournalOperationNamer(agent, default_model_id=default_model or "default")

    def bind(
        self, operation: DurableOperation[ParamsT, WireT, ResultT]
    ) -> BoundDurableOperation[ParamsT, WireT, ResultT]:
        return _Step(operation, self._namer)

    def config_for_tool(
        self,
        operation: DurableOperation[ParamsT, WireT, ResultT],  # noqa: ARG002
        *,
        tool: object | None,
        tool_name: str,  # noqa: ARG002
    ) -> Mapping[str, Any] | Literal[False]:
        settings = tool.tool_def.metadata if isinstance(tool, ToolsetTool) else None
        return False if (settings or {}).get(METADATA_KEY) is False else {}

    def registrations(self) -> Sequence[Callable[..., object]]:
        return ()


class _Step(BoundDurableOperation[ParamsT, WireT, ResultT], Generic[ParamsT, WireT, ResultT]):
    """One operation of an agent, each call of which is a step."""

    def __init__(
        self, operation: DurableOperation[ParamsT, WireT, ResultT], namer: JournalOperationNamer
    ) -> None:
        self._operation = operation
        self._namer = namer

    @property
    def operation(self) -> DurableOperation[ParamsT, WireT, ResultT]:
        return self._operation

    async def __call__(self, params: ParamsT, *, config: object | None = None) -> ResultT:  # noqa: ARG002
        operation = self._operation
        label = None if operation.invocation_label is None else operation.invocation_label(params)
        name = self._namer.invocation_name(operation.operation_id, label=label).operation_name
        # Each kind of parameters has the context of the run, under one of two names.
        run: Any = getattr(params, "run_context", None) or getattr(params, "ctx", None)
        context = current_job()
        step = _step_name(context, name, getattr(run, "run_id", None), getattr(run, "tool_call_id", None))
        stored = await _run_step(context, step, _stepping, operation, params)
        return operation.result_codec.load(stored)


async def _run_step(
    context: JobContext, name: str, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
) -> R:
    try:
        return await context.step(name, fn, *args, **kwargs)
    except WrongEventLoopError as error:
        raise ContextError(
            f"task {context.task!r}: a durable agent works in `async def` handlers, and this code runs in a "
            "thread: declare the handler with `async def` and await agent.run()"
        ) from error


async def _stepping(operation: DurableOperation[Any, Any, Any], params: Any) -> Any:
    token = _is_in_step.set(True)
    try:
        with durable_unit_scope():
            return operation.result_codec.dump(await operation.handler(params))
    finally:
        _is_in_step.reset(token)


async def _now() -> datetime:
    return datetime.now(UTC)


def _step_name(context: JobContext, operation: str, run_id: str | None, tool_call: str | None) -> str:
    """Return the name of a step that an agent comes to now.

    A run is numbered within its job, unless it was given an id. A tool call has the id that the model gave
    it; some models give one id twice.
    """
    run = (run_id or "0").removeprefix(f"{context.job_id}:")
    name = f"{operation} {run}" if tool_call is None else f"{operation} {run} {tool_call}"
    if not name.isprintable() or len(name) > MAX_STEP_NAME - 8:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        name = f"{''.join(filter(str.isprintable, operation))[:100]} {digest}"
    number = _next(context, name)
    return name if tool_call is not None and number == 1 else f"{name}.{number}"


def _next(context: JobContext, what: str) -> int:
    numbers = _numbers.setdefault(context, Counter())
    numbers[what] += 1
    return numbers[what]
