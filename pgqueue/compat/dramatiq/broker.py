"""Brokers: which PostgreSQL database is meant, and which actors there are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from pgqueue import JobFilter, JobNotFoundError, PgQueue, group_of
from pgqueue.blocking import BlockingPgQueue, BlockingWorkflowHandle
from pgqueue.compat import Lacking, connected, disconnect, not_there, read_address
from pgqueue.compat.dramatiq.calls import Calls, job_id_of
from pgqueue.compat.dramatiq.errors import ActorNotFound, QueueJoinTimeout
from pgqueue.compat.dramatiq.message import Message, group, pipeline
from pgqueue.compat.dramatiq.middleware import Middleware, check, default_middleware, emit
from pgqueue.compat.dramatiq.options import pgqueue_options, pgqueue_priority
from pgqueue.compat.dramatiq.results import ResultBackend
from pgqueue.compat.dramatiq.running import Around, handler_of
from pgqueue.compat.dramatiq.state import brokers

LIVE: Final = ("pending", "scheduled", "blocked", "running")
ALWAYS: Final = frozenset({"priority", "queue_name", "store_results", "result_ttl"})
"""Options that every broker knows."""


class Broker(Lacking):
    """Where messages are enqueued: a PgQueue.

    *address*: the DSN of its database. Any other address is passed over, and the environment's PGQUEUE_DSN
    names the database; without one that is no error until something is enqueued. Raises ConfigurationError.
    """

    lacking = "use broker.pgqueue, or broker.client, which needs no await"

    def __init__(self, address: str | None = None, middleware: Iterable[Middleware] | None = None) -> None:
        self.pgqueue = PgQueue(read_address(type(self).__name__, address), max_retries=0)
        """What everything here stands before: for what Dramatiq has no word for, and for new tasks."""
        self.actors: dict[str, Any] = {}
        self.middleware = [
            check(each) for each in (default_middleware() if middleware is None else middleware)
        ]
        self._calls = Calls(self.pgqueue, self.actors)
        self.processing: dict[UUID, Message] = {}
        """The messages that the workers of this process are processing."""
        self.pgqueue.middleware(Around(self))

    def __pgqueue__(self) -> PgQueue:
        """Return what `pgqueue worker` runs."""
        return self.pgqueue

    @property
    def client(self) -> BlockingPgQueue:
        """The same to call without `await`, opened."""
        return connected(self.pgqueue, {"max_retries": 0})

    def add_middleware(
        self,
        middleware: Middleware,
        *,
        before: type[Middleware] | None = None,
        after: type[Middleware] | None = None,
    ) -> None:
        """Add a middleware: at the end, or before or after another one. Add all before you declare actors."""
        if before is not None and after is not None:
            raise AssertionError("provide either 'before' or 'after', but not both")
        places = [place for place, each in enumerate(self.middleware) if type(each) is (before or after)]
        if (before or after) and not places:
            raise ValueError(f"Middleware {before or after!r} not found")
        place = len(self.middleware) if not places else places[0] + (after is not None)
        self.middleware.insert(place, check(middleware))

    @property
    def actor_options(self) -> set[str]:
        """The options that actors can have."""
        return set(ALWAYS).union(*(each.actor_options for each in self.middleware))

    @property
    def defaults(self) -> dict[str, Any]:
        """The options of actors that set none themselves."""
        found: dict[str, Any] = {"max_retries": 0}
        for each in self.middleware:
            found |= getattr(each, "defaults", {})
        return found

    # Actors

    def declare_actor(self, actor: Any) -> None:
        """Declare an actor as a task. Raises what `PgQueue.task` raises."""
        emit(self.middleware, "before_declare_actor", self, actor)
        actor.options = self.defaults | actor.options
        actor.task = self.pgqueue.task(
            name=actor.actor_name,
            queue=actor.queue_name,
            priority=pgqueue_priority(actor.priority),
            **pgqueue_options(actor.options),
        )(handler_of(actor))
        self.actors[actor.actor_name] = actor
        emit(reversed(self.middleware), "after_declare_actor", self, actor)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue."""
        if queue_name not in self.pgqueue.registry.queues:
            self.pgqueue.queue(queue_name)

    def get_actor(self, actor_name: str) -> Any:
        """Return an actor. Raises ActorNotFound."""
        if actor_name not in self.actors:
            raise ActorNotFound(actor_name)
        return self.actors[actor_name]

    def get_declared_actors(self) -> set[str]:
        """Return the names of the actors."""
        return {*self.actors}

    def get_declared_queues(self) -> set[str]:
        """Return the names of the queues."""
        return {*self.pgqueue.registry.queues}

    def get_results_backend(self) -> ResultBackend:
        """Return what reads results."""
        return ResultBackend(broker=self)

    def stores_result(self, message: Message) -> bool:
        """Whether the result of a message is kept."""
        actor = self.actors.get(message.actor_name)
        return self.stores_result_of({} if actor is None else actor.options | message.options)

    def stores_result_of(self, options: Mapping[str, Any]) -> bool:
        """Whether results are kept with these options."""
        return bool(options.get("store_results", False))

    # Enqueueing

    def enqueue(self, message: Message, *, delay: int | None = None) -> Message:
        """Enqueue a message. *delay*: in milliseconds. Raises DuplicateJobError if it was enqueued before."""
        self._before([message], delay)
        self.client.enqueue(self._calls.alone(message, delay))
        self._after([message], delay, None)
        return message

    def enqueue_pipeline(self, whole: pipeline, delay: int | None = None) -> BlockingWorkflowHandle[Any]:
        """Enqueue a pipeline: all of it or nothing."""
        self._before(whole.messages, delay)
        handle = self.client.enqueue_workflow(self._calls.chain(whole, delay))
        self._after(whole.messages, delay, handle.workflow_id)
        return handle

    def enqueue_group(self, whole: group, delay: int | None = None) -> None:
        """Enqueue a group: its messages at once, or, if it has callbacks, all of it."""
        if whole.completion_callbacks:
            self._enqueue_with_callbacks(whole, delay)
            return
        messages = [child for child in whole.children if isinstance(child, Message)]
        self._before(messages, delay)
        self.client.enqueue_many([self._calls.alone(each, delay) for each in messages])
        self._after(messages, delay, None)
        for child in whole.children:
            if isinstance(child, group | pipeline):
                child.run(delay=delay)

    def _enqueue_with_callbacks(self, whole: group, delay: int | None) -> None:
        children = [child for child in whole.children if isinstance(child, Message | pipeline)]
        if len(children) < len(whole.children):
            raise not_there(
                "a group in a group with callbacks", "use chord([...], body) of pgqueue, which nests"
            )
        messages = [
            each
            for child in children
            for each in (child.messages if isinstance(child, pipeline) else [child])
        ]
        self._before(messages, delay)
        canvases = [
            self._calls.chain(child if isinstance(child, pipeline) else pipeline([child], broker=self), delay)
            for child in children
        ]
        callbacks = [self._calls.node(each, takes_result=False) for each in whole.completion_callbacks]
        handle = self.client.enqueue_workflow(group_of(canvases).set(on_success=callbacks))
        self._after(messages, delay, handle.workflow_id)

    def _before(self, messages: Iterable[Message], delay: int | None) -> None:
        for message in messages:
            emit(self.middleware, "before_enqueue", self, message, delay)

    def _after(self, messages: Iterable[Message], delay: int | None, workflow_id: UUID | None) -> None:
        for message in messages:
            if workflow_id is not None:
                message.place.workflow_id = workflow_id
            emit(reversed(self.middleware), "after_enqueue", self, message, delay)

    def job_id_of(self, message: Message) -> UUID:
        """Return the id of a message's job. Raises JobNotFoundError."""
        if message.place.job_id is not None:
            return message.place.job_id
        workflow_id = message.place.workflow_id
        if workflow_id is None:
            return job_id_of(message.message_id)
        cursor = None
        while True:
            page = self.client.workflow_jobs(workflow_id, limit=1000, cursor=cursor)
            records = self.client.get_many([each.id for each in page.jobs])
            for record in records.values():
                if record.key == message.message_id:
                    message.place.job_id = record.id
                    return record.id
            cursor = page.cursor
            if cursor is None:
                raise JobNotFoundError(job_id_of(message.message_id))

    # What is enqueued

    def join(self, queue_name: str, *, interval: int = 100, timeout: int | None = None) -> None:
        """Wait until all messages of a queue were processed. Raises QueueJoinTimeout after *timeout* ms."""
        until = None if timeout is None else time.monotonic() + timeout / 1000
        while self.client.jobs(status=LIVE, queue=queue_name, limit=1).jobs:
            if until is not None and time.monotonic() > until:
                raise QueueJoinTimeout(queue_name)
            time.sleep(interval / 1000)

    def flush(self, queue_name: str) -> None:
        """Cancel the messages of a queue that were not processed yet."""
        for _ in self.client.cancel_many(JobFilter.of(status=LIVE, queue=queue_name), reason="flushed"):
            pass

    def flush_all(self) -> None:
        """Cancel the messages of all queues that were not processed yet."""
        for queue in self.get_declared_queues():
            self.flush(queue)

    def close(self) -> None:
        """Close its connections. The next call opens others."""
        disconnect(self.pgqueue)


def get_broker() -> Broker:
    """Return the broker that was set, or else one whose database PGQUEUE_DSN names."""
    broker: Broker = brokers.chosen
    return broker


def set_broker(broker: Broker) -> None:
    """Set the broker of actors that are declared without one."""
    if not isinstance(broker, Broker):
        raise TypeError(f"set_broker: the broker must be one of pgqueue.compat.dramatiq, got {broker!r}")
    brokers.chosen = broker


brokers.make = Broker
