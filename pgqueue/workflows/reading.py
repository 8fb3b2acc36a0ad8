"""Reads the calls of a workflow with the options of a PgQueue's tasks and queues. No I/O."""

from __future__ import annotations

import json
from typing import Any

from pgqueue.enqueueing.calls import CallReader
from pgqueue.errors import InvalidOptionError, InvalidWorkflowError
from pgqueue.store import Template
from pgqueue.tasks.arguments import INPUTS
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
        return read.template

    def encode(self, call: Signature[Any]) -> str:
        """Return the arguments of a whole call as they are stored. Raises InvalidArgumentsError."""
        return self._reader.stored(self._reader.encode(call))

    def encode_link(self, call: Signature[Any], inputs: str) -> str:
        """Return those of a call that lacks the first argument. Raises InvalidArgumentsError."""
        document = self._reader.encode_link(call)
        rest = "}" if document == "{}" else f",{document[1:]}"
        return self._reader.stored(f"{{{json.dumps(INPUTS)}:{json.dumps(inputs)}{rest}")
