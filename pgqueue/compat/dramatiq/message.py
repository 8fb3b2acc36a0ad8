"""Messages, alone and composed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID, uuid4

from pgqueue.blocking import BlockingWorkflowHandle
from pgqueue.compat import Lacking
from pgqueue.compat.dramatiq.errors import ResultMissing
from pgqueue.compat.dramatiq.state import brokers

DEFAULT_TIMEOUT = 10_000
"""Milliseconds that a result is waited for."""


@dataclass
class Place:
    """Where the job of a message is that was enqueued with others."""

    workflow_id: UUID | None = None
    job_id: UUID | None = None


@dataclass(frozen=True)
class Message(Lacking):
    """A call of an actor. Its id is the id of its job, so the same message is enqueued once."""

    queue_name: str
    actor_name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    message_id: str = field(default_factory=lambda: str(uuid4()))
    message_timestamp: int = field(default_factory=lambda: int(time.time() * 1000))
    place: Place = field(default_factory=Place, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", tuple(self.args))

    def __or__(self, other: Message | pipeline) -> pipeline:
        """Compose this and *other*, which takes its result as last argument."""
        return pipeline([self, other])

    def asdict(self) -> dict[str, Any]:
        """Return it as a dict."""
        names = ("queue_name", "actor_name", "args", "kwargs", "options", "message_id", "message_timestamp")
        return {name: getattr(self, name) for name in names}

    def encode(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(self.asdict(), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the message that *data* is. Raises ValueError, TypeError."""
        return cls(**json.loads(data))

    def copy(self, **attributes: Any) -> Self:
        """Return it with other attributes, and with *options* over its own."""
        options = {**self.options, **attributes.pop("options", {})}
        return replace(self, **attributes, options=options)

    @property
    def message_datetime(self) -> datetime:
        """When it was made."""
        return datetime.fromtimestamp(self.message_timestamp / 1000, UTC)

    def get_result(self, *, backend: Any = None, block: bool = False, timeout: int | None = None) -> Any:
        """Return the result of its actor, which *block* waits for: *timeout* milliseconds, by default 10,000.

        Raises ResultMissing, ResultTimeout, ResultFailure.
        """
        return (backend or brokers.chosen.get_results_backend()).get_result(
            self, block=block, timeout=timeout
        )

    def __str__(self) -> str:
        arguments = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.actor_name}({', '.join(arguments)})"


class pipeline:  # noqa: N801  # Dramatiq's name
    """Messages that are processed one after the other, each with the result before it as last argument."""

    def __init__(self, children: Iterable[Message | pipeline], *, broker: Any = None) -> None:
        self.broker = broker or brokers.chosen
        self.handle: BlockingWorkflowHandle[Any] | None = None
        self.messages: list[Message] = []
        for child in children:
            self.messages.extend(child.messages if isinstance(child, pipeline) else [child])

    def __len__(self) -> int:
        return len(self.messages)

    def __or__(self, other: Message | pipeline) -> Self:
        """Return a pipeline with *other* at its end."""
        return type(self)([self, other], broker=self.broker)

    def run(self, *, delay: int | None = None) -> Self:
        """Enqueue it: all of it or nothing. *delay*: milliseconds before the first message."""
        self.handle = self.broker.enqueue_pipeline(self, delay)
        return self

    @property
    def completed(self) -> bool:
        """Whether all of it was processed."""
        return _is_there(self)

    @property
    def completed_count(self) -> int:
        """The number of messages that were processed."""
        return sum(_is_there(message) for message in self.messages)

    def get_result(self, *, block: bool = False, timeout: int | None = None) -> Any:
        """Return the result of its last message: see Message.get_result."""
        return self.messages[-1].get_result(
            backend=self.broker.get_results_backend(), block=block, timeout=timeout
        )

    def get_results(self, *, block: bool = False, timeout: int | None = None) -> Iterator[Any]:
        """Yield the result of each message: see Message.get_result."""
        return _each(self.messages, self.broker, block=block, timeout=timeout)

    def __str__(self) -> str:
        return f"pipeline([{', '.join(map(str, self.messages))}])"


class group:  # noqa: N801  # Dramatiq's name
    """Messages, pipelines and groups that are processed at the same time."""

    def __init__(self, children: Iterable[Message | pipeline | group], *, broker: Any = None) -> None:
        self.children = list(children)
        self.broker = broker or brokers.chosen
        self.completion_callbacks: list[Message] = []

    def __len__(self) -> int:
        return len(self.children)

    def add_completion_callback(self, message: Message) -> None:
        """Have *message* sent once all of it has succeeded."""
        self.completion_callbacks.append(message)

    def run(self, *, delay: int | None = None) -> Self:
        """Enqueue it. *delay*: milliseconds before each of its messages."""
        self.broker.enqueue_group(self, delay)
        return self

    @property
    def completed(self) -> bool:
        """Whether all of it was processed."""
        return self.completed_count == len(self)

    @property
    def completed_count(self) -> int:
        """The number of children that were processed."""
        return sum(_is_there(child) for child in self.children)

    def get_results(self, *, block: bool = False, timeout: int | None = None) -> Iterator[Any]:
        """Yield the result of each child, in their order: see Message.get_result."""
        return _each(self.children, self.broker, block=block, timeout=timeout)

    def wait(self, *, timeout: int | None = None) -> None:
        """Wait until all of it was processed. Raises ResultTimeout, ResultFailure."""
        for _ in self.get_results(block=True, timeout=timeout):
            pass

    def __str__(self) -> str:
        return f"group([{', '.join(map(str, self.children))}])"


def _each(
    children: Iterable[Message | pipeline | group], broker: Any, *, block: bool, timeout: int | None
) -> Iterator[Any]:
    until = time.monotonic() + (DEFAULT_TIMEOUT if timeout is None else timeout) / 1000
    for child in children:
        left = max(0, int((until - time.monotonic()) * 1000))
        if isinstance(child, group):
            yield list(child.get_results(block=block, timeout=left))
        elif isinstance(child, pipeline):
            yield child.get_result(block=block, timeout=left)
        else:
            yield child.get_result(backend=broker.get_results_backend(), block=block, timeout=left)


def _is_there(child: Message | pipeline | group) -> bool:
    try:
        if isinstance(child, group):
            for _ in child.get_results():
                pass
        else:
            child.get_result()
    except ResultMissing:
        return False
    return True
