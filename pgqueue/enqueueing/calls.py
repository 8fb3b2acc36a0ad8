"""From calls to jobs: their options are resolved, their arguments checked and encoded. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

from pgqueue.enqueueing.batch import Batch, Call
from pgqueue.enqueueing.gc_pause import collector_paused
from pgqueue.errors import InvalidArgumentsError, InvalidOptionError, InvalidWorkflowError
from pgqueue.flow.limits import FAIR, Gate, Limit, LimitBy, gates_of
from pgqueue.model.checks import shown
from pgqueue.model.ids import new_ids
from pgqueue.options.levels import NO_OPTIONS
from pgqueue.tasks.codec import Codec, encode_document
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.payload import encode_by_name
from pgqueue.tasks.registry import Registry
from pgqueue.tasks.signature import Signature

CheckQueue = Callable[[str, object], None]
"""Raises UnknownQueueError, about what is named first, for a queue that no job may be enqueued to."""


class CallReader:
    """Reads calls with the options of a PgQueue's tasks and queues. *payload_limit* is in bytes."""

    def __init__(
        self, registry: Registry, codec: Codec | None, *, payload_limit: int, check_queue: CheckQueue
    ) -> None:
        self._registry = registry
        self._codec = codec
        self._payload_limit = payload_limit
        self._check_queue = check_queue
        self._queue_limits: dict[str, tuple[LimitBy, ...]] = {}
        self._fair_queues: dict[str, LimitBy] = {}
        """The queues that keys share, each with its window."""
        self._known: dict[str, Call] = {}
        """What calls without options of their own come to, by task."""

    def forget(self) -> None:
        """Resolve options anew: those of a queue have changed."""
        self._known.clear()

    def read(self, signature: Signature[Any], alike: dict[Hashable, Call] | None = None) -> Call:
        """Resolve a call's options; *alike* has what calls of the same kind came to.

        Raises InvalidOptionError, UnknownQueueError.
        """
        try:
            is_plain = signature.definition is not None and signature.options is NO_OPTIONS
        except AttributeError:
            raise _no_call(signature) from None
        if is_plain and (known := self._known.get(signature.task)) is not None:
            return known
        if not isinstance(signature, Signature):
            raise _no_call(signature)
        kind = (signature.task, signature.definition, signature.options.kind())
        if alike is not None and (like := alike.get(kind)) is not None:
            return like.alike(signature.options)
        options = self._registry.resolve(signature.task, signature.definition, signature.options)
        self._check_queue(f"task {signature.task!r}", options["queue"])
        call = Call.of(
            signature.task,
            options,
            signature.options,
            self._limits_of(signature.task, signature.definition, options["queue"]),
        )
        if is_plain:
            self._known[signature.task] = call
        elif alike is not None:
            alike[kind] = call
        return call

    def limit_queue(self, queue: str, limits: tuple[LimitBy, ...]) -> None:
        """Have all jobs of a queue wait for *limits*."""
        self._queue_limits[queue] = limits
        self.forget()

    def share_queue(self, queue: str, window: LimitBy | None) -> None:
        """Have the keys of *window* share a queue; None: its jobs have none."""
        if window is None:
            self._fair_queues.pop(queue, None)
        else:
            self._fair_queues[queue] = window
        self.forget()

    def check_shares(self, queue: str, window: LimitBy) -> None:
        """Raise InvalidOptionError if a task whose jobs go to *queue* has no argument that is the key."""
        for task in self._registry.definitions:
            if self._registry.queue_of(task) == queue:
                _check_key(task, queue, window)

    def check_task(self, task: TaskDefinition) -> None:
        """Raise InvalidOptionError if the queue of *task* is shared by keys that the task does not have."""
        queue = self._registry.queue_of(task)
        window = self._fair_queues.get(queue)
        if window is not None:
            _check_key(task, queue, window)

    def gates_there(self, task: str, queue: str, document: str, *, is_new: bool) -> tuple[Gate, ...] | None:
        """Return what a job in *queue* with the arguments *document* passes.

        If its arguments are not new, that is the window of a fair queue at most: its other keys are stored.
        None: this process does not know. Raises InvalidArgumentsError, if they are new.
        """
        definition = self._registry.get(task)
        if is_new and definition is None:
            return None
        limits = self._limits_of(task, definition, queue)
        if not is_new:
            limits = tuple(each for each in limits if each.limit.name.startswith(FAIR))
        if not limits:
            return ()
        defaults = {} if definition is None else definition.arguments.defaults
        try:
            return gates_of(limits, task, document, defaults)
        except InvalidArgumentsError:
            if is_new:
                raise
            return None

    def limits_there(self, task: str, queue: str) -> set[Limit]:
        """Return the limits that jobs of *task* have in *queue*, as far as this process declares them."""
        return {each.limit for each in self._all_limits_of(self._registry.get(task), queue)}

    def _limits_of(self, name: str, task: TaskDefinition | None, queue: str) -> tuple[LimitBy, ...]:
        limits = self._all_limits_of(task, queue)
        if not limits or not self._registry.redacts(name, queue):
            return limits
        # Keys are listed, logged and put into addresses: what is hidden of arguments must not be one.
        redact = partial(self._registry.redact, name, queue)
        return tuple(replace(each, redact=redact) for each in limits)

    def _all_limits_of(self, task: TaskDefinition | None, queue: str) -> tuple[LimitBy, ...]:
        window, of_queue = self._fair_queues.get(queue), self._queue_limits.get(queue, ())
        limits = () if task is None else task.limits
        ordered = None if task is None else task.ordered
        if window is None and not of_queue and ordered is None:
            return limits
        # First the turn in a group: whoever waits for it holds nothing that others wait for. Then the window:
        # so the line of a limit that keys share has a window of each at most.
        return tuple(each for each in (ordered, window, *limits, *of_queue) if each is not None)

    def encode(self, signature: Signature[Any]) -> str:
        """Return a call's arguments as JSON. Raises InvalidArgumentsError, PayloadTooLargeError."""
        if signature.definition is None:
            return encode_by_name(signature.task, signature.args, signature.kwargs, limit=self._payload_limit)
        return signature.definition.arguments.encode(
            signature.args, signature.kwargs, limit=self._payload_limit
        )

    def encode_link(self, signature: Signature[Any]) -> str:
        """Return, as JSON, the arguments of a call without its first one, which the result before it becomes.

        Raises InvalidArgumentsError, PayloadTooLargeError.
        """
        if signature.definition is None:
            return self.encode(signature)
        return signature.definition.arguments.without_first().encode(
            signature.args, signature.kwargs, limit=self._payload_limit
        )

    def stored(self, document: str) -> str:
        """Return arguments as they are stored. Raises what the codec raises."""
        return document if self._codec is None else encode_document(self._codec, document)


class Intake:
    """The calls of one enqueue, taken and read part by part: `batch` has what was taken.

    They may come from a generator, of which no more is taken than is asked for.
    """

    def __init__(self, reader: CallReader, signatures: Iterable[Signature[Any]]) -> None:
        self.batch = Batch()
        self.definitions: list[TaskDefinition | None] = []
        """The tasks of the calls, in order."""
        self.is_whole = False
        """Whether every call was taken."""
        self._reader = reader
        self._signatures = iter(signatures)
        self._calls: dict[tuple[str, int], tuple[object, Call]] = {}
        """By task and options object, which is kept, so that no other one takes its place and its id."""
        self._alike: dict[Hashable, Call] = {}

    def take(self, count: int) -> None:
        """Take the next *count* calls, or those that are left. Raises what a call can be refused with."""
        signatures = list(islice(self._signatures, count))
        with collector_paused(len(signatures)):
            for signature, fresh_id in zip(signatures, new_ids(len(signatures)), strict=True):
                self._add(signature, fresh_id)
        if len(signatures) < count:
            self.is_whole = True
            self.batch.close()

    def take_all(self) -> None:
        """Take all that are left."""
        while not self.is_whole:
            self.take(MANY)

    def _add(self, signature: Signature[Any], fresh_id: Any) -> None:
        # The same options object is the same options: a bulk call of one task resolves them once.
        try:
            known = self._calls.get((signature.task, id(signature.options)))
        except AttributeError:
            raise _no_call(signature) from None
        if known is None:
            call = self._reader.read(signature, self._alike)
            if call.depends_on:
                raise InvalidOptionError(
                    f"task {signature.task!r}: enqueue a job with 'depends_on' by itself: several that "
                    "depend on each other are a workflow (pgq.workflow)"
                )
            self._calls[signature.task, id(signature.options)] = signature.options, call
        else:
            call = known[1]
        document = self._reader.encode(signature)
        stored = self._reader.stored(document)
        if call.is_simple:
            self.batch.add(call, fresh_id, stored)
        else:
            self._add_special(call, fresh_id, document, stored, signature.definition)
        self.definitions.append(signature.definition)

    def _add_special(
        self, call: Call, fresh_id: UUID, document: str, stored: str, definition: TaskDefinition | None
    ) -> None:
        if call.key_rule is None:
            is_its = self.batch.add(call, fresh_id, stored)
        else:
            is_its = self.batch.add_keyed(call, call.key_rule, fresh_id, document, stored)
        if call.limits and is_its:
            self.batch.add_limits(call, document, {} if definition is None else definition.arguments.defaults)


MANY = 100_000
"""Calls that are read with the collector paused, at most."""


def _check_key(task: TaskDefinition, queue: str, window: LimitBy) -> None:
    names = sorted(task.arguments.names)
    if isinstance(window.key, str) and window.key not in names:
        raise InvalidOptionError(
            f"queue {queue!r}: fair_by is {window.key!r}, which is no argument of its task {task.name!r} "
            f"(it has: {', '.join(names) or 'none'}); pass a function of the arguments for tasks that differ"
        )


def _no_call(given: object) -> InvalidWorkflowError:
    return InvalidWorkflowError(
        f"only a call such as task.s(...) becomes a job, got {shown(given)}; enqueue composed calls "
        "by their own `.enqueue()`, or by `pgq.enqueue_workflow(...)`"
    )
