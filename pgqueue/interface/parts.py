"""What the parts of a PgQueue's interface have in common."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from pgqueue.batch import Call
from pgqueue.database import Database
from pgqueue.errors import CodecError, NotOpenError, UnknownQueueError
from pgqueue.events import Observers
from pgqueue.jobs import Job
from pgqueue.registry import Codec, Registry
from pgqueue.signals import Signals
from pgqueue.store import Store
from pgqueue.watches import Watches


class Parts:
    """What a PgQueue is made of. It makes them; here they are only named."""

    registry: Registry
    schema: str
    payload_limit: int
    _codec: Codec | None
    _strict_queues: bool
    _database: Database
    _store: Store
    _signals: Signals
    _watches: Watches
    _observers: Observers
    _host: asyncio.Task[None] | None
    _lanes: dict[tuple[str, int], int]
    _calls: dict[str, Call]

    def _check_open(self) -> None:
        if self._host is None:
            raise NotOpenError("this PgQueue is not open: use it inside `async with pgq:`")

    def _check_declared(self, what: str, queue: object) -> None:
        if self._strict_queues and queue not in self.registry.queues:
            declared = ", ".join(sorted(self.registry.queues))
            raise UnknownQueueError(
                f"{what}: queue {queue!r} is not declared (declared: {declared}); "
                "declare it with `pgq.queue(...)`"
            )

    def _decoded(self, job: Job) -> Job:
        if self._codec is None:
            return job
        arguments = self._decode(job, "arguments", job.arguments)
        result = self._decode(job, "result", job.result) if job.has_result else None
        return replace(job, arguments=arguments, result=result)

    def _decode(self, job: Job, what: str, stored: Any) -> Any:
        assert self._codec is not None
        try:
            return json.loads(self._codec.decode(json.dumps(stored)))
        except Exception as error:
            # The codec is the user's: it may raise anything.
            raise CodecError(job.id, what, error) from error
