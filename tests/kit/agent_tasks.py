"""An agent that runs in a worker process, and notes what it asks its model and its tools."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from pgqueue import PgQueue
from pgqueue.integrations.pydantic_ai import PgQueueDurability

pgq = PgQueue(os.environ.get("PGQUEUE_TEST_DSN", "postgresql://not-a-worker-process/"))
SIGNS = Path(os.environ.get("PGQUEUE_TEST_SIGNS", "/nowhere"))


def note(what: str) -> None:
    """Add a line to what was asked."""
    with (SIGNS / "asked").open("a") as file:
        print(what, file=file)


async def think(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Ask for the weather of two towns, then say it; the second answer takes until a file is there."""
    returned = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
    note(f"model {len(returned)}")
    if not returned:
        return ModelResponse(parts=[ToolCallPart("weather", {"town": town}) for town in ("Oslo", "Rome")])
    while not (SIGNS / "go").exists():  # noqa: ASYNC110  # another process makes it
        await anyio.sleep(0.01)
    return ModelResponse(parts=[TextPart(", ".join(str(part.content) for part in returned))])


agent = Agent(FunctionModel(think), name="forecast", capabilities=[PgQueueDurability()])


@agent.tool_plain
async def weather(town: str) -> str:
    """Tell the weather of a town."""
    note(f"tool {town}")
    return f"rain in {town}"


@pgq.task
async def forecast(question: str) -> str:
    """Ask the agent."""
    return (await agent.run(question)).output
