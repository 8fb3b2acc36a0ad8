"""Reads the calls of a workflow with the options of a PgQueue's tasks and queues. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pgqueue.enqueueing.calls import CallReader
from pgqueue.errors import InvalidOptionError, InvalidWorkflowError
from pgqueue.flow.limits import LimitBy, gates_of
from pgqueue.options.checks import MAX_HEADERS
from pgqueue.store import Template
from pgqueue.tasks.around import workflow_headers
from pgqueue.tasks.payload import INPUTS
from pgqueue.tasks.signature import Signature


class WorkflowReader:
    """Reads calls for the PgQueue *host*."""

    def __init__(self, reader: CallReader, host: object) -> None:
        self._reader = reader
        self._host = host

    def template(self, call: Signature[Any]) -> Template:
        """Return the job of a call without its arguments.

        Raises InvalidOptionError, InvalidWorkflowError, UnknownQueueError.
        """
        if call.host is not None and call.host is not self._host:
            raise InvalidWorkflowError(
                f"task {call.task!r} belongs to another PgQueue: a workflow is in one database and schema"
            )
        read = self._reader.read(call)
        if read.key_rule is not None:
            raise InvalidOptionError(
                f"task {call.task!r}: a job of a workflow cannot have an idempotency key, because another "
                "job could stand for it; set idempotency_key=None for the call"
            )
        return _with_headers(read.template)

    def limits(self, call: Signature[Any]) -> tuple[LimitBy, ...]:
        """Return what the job of a call waits for until it may run."""
        return self._reader.read(call).limits

    def gates(
        self, limits: Sequence[LimitBy], call: Signature[Any], *, is_link: bool
    ) -> tuple[tuple[str, str], ...]:
        """Return the keys of a call in its limits. Raises InvalidArgumentsError."""
        document = self._reader.encode_link(call) if is_link else self._reader.encode(call)
        defaults = {} if call.definition is None else call.definition.arguments.defaults
        return gates_of(limits, call.task, document, defaults)

    def encode(self, call: Signature[Any]) -> str:
        """Return the arguments of a whole call as they are stored. Raises InvalidArgumentsError."""
        return self._reader.stored(self._reader.encode(call))

    def encode_link(self, call: Signature[Any], inputs: str) -> str:
        """Return those of a call that lacks the first argument. Raises InvalidArgumentsError."""
        document = self._reader.encode_link(call)
        rest = "}" if document == "{}" else f",{document[1:]}"
        return self._reader.stored(f"{{{json.dumps(INPUTS)}:{json.dumps(inputs)}{rest}")


def _with_headers(template: Template) -> Template:
    """Return *template* with the headers that whoever enqueues the workflow gives to each of its jobs."""
    headers = workflow_headers.get()
    if not headers:
        return template
    whole = {**headers, **json.loads(template.headers or "{}")}
    # What has no room is left out: the job's own headers are what was asked for.
    return replace(template, headers=json.dumps(whole)) if len(whole) <= MAX_HEADERS else template
