"""An agent in a job: what its model and its tools have said is asked for once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kit.snippets import run, snippets
from kit.waiting import eventually, over
from pydantic import BaseModel
from pydantic_ai import Agent, ApprovalRequired, DeferredToolRequests, DeferredToolResults, RunContext
from pydantic_ai.exceptions import ModelRetry, UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import FunctionToolset

from pgqueue import JobContext, JobStatus, PgQueue
from pgqueue.integrations.pydantic_ai import PgQueueDurability

if TYPE_CHECKING:
    from conftest import Connection

TESTS = Path(__file__).parents[1]


@contextmanager
def worker_process(dsn: str, signs: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "PGQUEUE_TEST_DSN": dsn,
        "PGQUEUE_TEST_SIGNS": str(signs),
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
    }
    arguments = (sys.executable, "-m", "pgqueue", "worker", "kit.agent_tasks:pgq", "--lease-ttl", "1")
    process = subprocess.Popen(arguments, env=environment, cwd=TESTS)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def asked(signs: Path) -> list[str]:
    path = signs / "asked"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.contract("P3.10")
async def test_a_killed_worker_repeats_no_request_and_no_tool_call_that_was_kept(
    pgq: PgQueue, dsn: str, tmp_path: Path
) -> None:
    job = await pgq.enqueue_by_name("forecast", question="?")

    with worker_process(dsn, tmp_path) as first:
        await eventually(lambda: has_asked(tmp_path, "model 2", 1))
        first.kill()
        first.wait()
        with worker_process(dsn, tmp_path):
            await eventually(lambda: has_asked(tmp_path, "model 2", 2))
            (tmp_path / "go").touch()
            result = await job.result(timeout=180)

    assert result == "rain in Oslo, rain in Rome"
    assert Counter(asked(tmp_path)) == {"model 0": 1, "tool Oslo": 1, "tool Rome": 1, "model 2": 2}


async def has_asked(signs: Path, what: str, times: int) -> bool:
    return asked(signs).count(what) == times


class Forecast(BaseModel):
    """What an agent comes to."""

    town: str
    degrees: float


@pytest.mark.contract("P3.10")
async def test_a_rerun_of_several_runs_gets_all_from_steps(pgq: PgQueue, db: Connection) -> None:
    calls: Counter[str] = Counter()
    outputs: list[Any] = []
    tools: FunctionToolset[int] = FunctionToolset(id="tools")

    @tools.tool
    async def add(ctx: RunContext[int], number: int) -> int:
        calls[f"add {ctx.deps}"] += 1
        return ctx.deps + number

    @tools.tool_plain(metadata={"pgqueue": False})
    def look() -> str:
        calls["look"] += 1
        return "seen"

    class Counting(TestModel):
        async def request(self, *args: Any, **kwargs: Any) -> ModelResponse:
            calls["model"] += 1
            return await super().request(*args, **kwargs)

    agent = Agent(
        Counting(),
        name="counting",
        deps_type=int,
        output_type=Forecast,
        toolsets=[tools],
        capabilities=[PgQueueDurability()],
    )

    @pgq.task(max_retries=2, default_retry_delay=0)
    async def work(ctx: JobContext) -> list[Forecast]:
        # Side by side: each has its own numbers.
        pair = await asyncio.gather(agent.run("a", deps=1), agent.run("b", deps=2))
        last = await agent.run("c", deps=3, message_history=pair[0].all_messages())
        results = [*pair, last]
        outputs.append([(each.output, each.run_id, len(each.all_messages())) for each in results])
        if ctx.attempt < 3:
            raise ConnectionResetError
        return [each.output for each in results]

    job = await work.enqueue()
    async with pgq.worker():
        result = await job.result(timeout=180)

    assert len(result) == 3
    assert outputs == [outputs[0]] * 3
    # The last run finds in its history that the tools were called.
    assert calls == {"model": 5, "add 1": 1, "add 2": 1, "look": 6}
    assert await db.fetchval("select count(*) from pgqueue.step") == 7


@pytest.mark.contract("P3.10")
async def test_a_tool_that_asks_for_another_call_is_asked_once_for_each(pgq: PgQueue) -> None:
    calls: Counter[str] = Counter()

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        calls["model"] += 1
        if any(getattr(part, "content", "") == "seen" for part in messages[-1].parts):
            return ModelResponse(parts=[TextPart("done")])
        # The same id each time, as some models give.
        return ModelResponse(parts=[ToolCallPart("look", {}, tool_call_id="one")])

    agent = Agent(FunctionModel(model), name="again", capabilities=[PgQueueDurability()], retries=3)

    @agent.tool_plain
    async def look() -> str:
        calls["tool"] += 1
        if calls["tool"] < 3:
            raise ModelRetry("look again")
        return "seen"

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext) -> str:
        output = (await agent.run("?")).output
        if ctx.attempt == 1:
            raise ConnectionResetError
        return output

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=180) == "done"

    assert calls == {"model": 4, "tool": 3}


@pytest.mark.contract("P3.10")
async def test_a_request_that_failed_is_made_again_and_those_before_it_are_not(pgq: PgQueue) -> None:
    calls: Counter[str] = Counter()

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        calls[f"model {len(messages)}"] += 1
        if len(messages) == 1:
            return ModelResponse(parts=[ToolCallPart("look", {})])
        if calls["model 3"] == 1:
            raise ConnectionResetError
        return ModelResponse(parts=[TextPart("done")])

    agent = Agent(FunctionModel(model), name="failing", capabilities=[PgQueueDurability()])

    @agent.tool_plain
    def look() -> str:
        calls["tool"] += 1
        return "seen"

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work() -> str:
        return (await agent.run("?", usage_limits=None)).output

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=180) == "done"

    assert calls == {"model 1": 1, "tool": 1, "model 3": 2}


@pytest.mark.contract("P3.10")
async def test_a_person_approves_a_tool_call_days_later_while_the_job_holds_no_slot(pgq: PgQueue) -> None:
    calls: Counter[str] = Counter()

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        calls["model"] += 1
        for message in messages:
            for part in message.parts:
                if isinstance(part, ToolReturnPart):
                    return ModelResponse(parts=[TextPart(str(part.content))])
        return ModelResponse(parts=[ToolCallPart("delete", {"path": "/etc"})])

    agent = Agent(
        FunctionModel(model),
        name="careful",
        output_type=[str, DeferredToolRequests],
        capabilities=[PgQueueDurability()],
    )

    @agent.tool
    async def delete(ctx: RunContext, path: str) -> str:
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        calls["delete"] += 1
        return f"deleted {path}"

    @pgq.task
    async def clean(ctx: JobContext) -> str:
        run = await agent.run("clean up")
        while isinstance(run.output, DeferredToolRequests):
            answers = DeferredToolResults()
            for call in run.output.approvals:
                answer = await ctx.wait_for_event("approved", bool, timedelta(days=7))
                answers.approvals[call.tool_call_id] = answer is True
            run = await agent.run(message_history=run.all_messages(), deferred_tool_results=answers)
        return run.output

    job = await clean.enqueue()
    async with pgq.worker():
        await eventually(lambda: is_blocked(pgq, job.id))
        await pgq.signal(job.id, "approved", value=True)
        assert await job.result(timeout=180) == "deleted /etc"

    assert calls == {"model": 2, "delete": 1}


async def is_blocked(pgq: PgQueue, job_id: Any) -> bool:
    return (await pgq.get(job_id)).status is JobStatus.BLOCKED


@pytest.mark.contract("P3.10")
async def test_what_a_model_streams_is_told_once(pgq: PgQueue) -> None:
    told: list[str] = []

    async def tell(_: RunContext, events: Any) -> None:
        told.extend([event.event_kind async for event in events])

    agent = Agent(
        TestModel(),
        name="streaming",
        capabilities=[PgQueueDurability(event_stream_handler=tell)],
    )

    @agent.tool_plain
    async def look() -> str:
        return "seen"

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext) -> str:
        output = (await agent.run("?")).output
        if ctx.attempt == 1:
            raise ConnectionResetError
        return output

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=180) == '{"look":"seen"}'

    assert told.count("function_tool_call") == told.count("function_tool_result") == 1
    assert told.count("final_result") == 1


@pytest.mark.contract("P3.10")
async def test_the_time_limit_of_a_run_counts_from_its_first_attempt(pgq: PgQueue) -> None:
    agent = Agent(TestModel(), name="hurried", capabilities=[PgQueueDurability()])

    @pgq.task(max_retries=1, default_retry_delay=0)
    async def work(ctx: JobContext) -> str:
        output = (await agent.run("?", timeout=60)).output
        if ctx.attempt == 1:
            raise ConnectionResetError
        return output

    job = await work.enqueue()
    async with pgq.worker():
        assert await job.result(timeout=180) == "success (no tool calls)"


async def test_outside_of_a_job_an_agent_works_as_any_other() -> None:
    agent = Agent(TestModel(), name="plain", capabilities=[PgQueueDurability()])

    assert (await agent.run("?")).output == "success (no tool calls)"


async def test_an_agent_without_a_name_is_refused() -> None:
    with pytest.raises(UserError, match="name"):
        Agent(TestModel(), capabilities=[PgQueueDurability()])


async def test_in_a_plain_function_an_agent_is_refused_and_says_what_to_do(pgq: PgQueue) -> None:
    agent = Agent(TestModel(), name="blocking", capabilities=[PgQueueDurability()])

    @pgq.task(max_retries=0)
    def work() -> str:
        return asyncio.run(agent.run("?")).output

    job = await work.enqueue()
    async with pgq.worker():
        ended = await over(job)

    assert ended.error is not None
    assert "declare the handler with `async def`" in ended.error.message


async def test_the_page_on_agents_does_what_it_says(pgq: PgQueue) -> None:
    def careful(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        returned = [
            part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)
        ]
        if returned:
            return ModelResponse(parts=[TextPart(str(returned[-1].content))])
        return ModelResponse(parts=[ToolCallPart("refund", {"order": 7})])

    names: dict[str, Any] = {"pgq": pgq, "model": TestModel(), "careful_model": FunctionModel(careful)}
    async with pgq.worker():
        for code in snippets("how-to/pydantic-ai.md", "python"):
            await run(code, names)
        answered = await names["job"].result(timeout=180)
        refunded = await names["complaint"].result(timeout=180)

    assert "order 0 was sent on Monday" in answered
    assert refunded == "refunded order 7"
