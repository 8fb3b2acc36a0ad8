"""Results of actors. They are in the database, so a backend is a name only."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from pgqueue import Job as Record
from pgqueue import JobDidNotSucceed, JobNotFoundError, JobStatus, ResultTimeoutError
from pgqueue.blocking import BlockingPgQueue
from pgqueue.compat import Lacking
from pgqueue.compat.dramatiq.errors import ResultError, ResultFailure, ResultMissing, ResultTimeout
from pgqueue.compat.dramatiq.message import DEFAULT_TIMEOUT
from pgqueue.compat.dramatiq.middleware import Middleware
from pgqueue.compat.dramatiq.state import brokers

__all__ = ["ResultBackend", "ResultError", "ResultFailure", "ResultMissing", "ResultTimeout", "Results"]


class ResultBackend(Lacking):
    """Reads the results of the broker's jobs. Whatever it is given, results are where jobs are."""

    lacking = "results are in the jobs: use broker.client"

    def __init__(self, *_: object, **options: Any) -> None:
        self._broker = options.get("broker")

    def get_result(self, message: Any, *, block: bool = False, timeout: int | None = None) -> Any:
        """Return the result of a message: see Message.get_result."""
        broker = self._broker or brokers.chosen
        if not broker.stores_result(message):
            raise ResultMissing(f"{message} has no result: its actor needs store_results=True")
        client, job_id = broker.client, broker.job_id_of(message)
        try:
            record = client.get(job_id)
            if not record.is_terminal and block:
                record = _ended(client, job_id, DEFAULT_TIMEOUT if timeout is None else timeout)
        except JobNotFoundError:
            raise ResultMissing(f"{message} has no result: it was not enqueued") from None
        if not record.is_terminal:
            raise ResultMissing(f"{message} has no result yet: it is {record.status}")
        if record.status is JobStatus.SUCCEEDED:
            return record.result
        raise _failure(record)


class Results(Middleware):
    """Whether results are kept, unless an actor says otherwise. *backend*: any; jobs have them."""

    def __init__(
        self, *, backend: object = None, store_results: bool = False, result_ttl: int | None = None
    ) -> None:
        del backend, result_ttl
        self.defaults = {"store_results": store_results}

    @property
    def actor_options(self) -> set[str]:
        """The options of actors that it knows."""
        return {"store_results", "result_ttl"}


def _ended(client: BlockingPgQueue, job_id: UUID, timeout: float) -> Record:
    """Return a job that has ended. Raises ResultTimeout."""
    with suppress(JobDidNotSucceed):
        try:
            client.handle(job_id).result(timeout / 1000)
        except ResultTimeoutError as error:
            raise ResultTimeout(str(error)) from None
    return client.get(job_id)


def _failure(record: Record) -> ResultFailure:
    error = record.error
    if error is None:
        return ResultFailure(f"the message was not processed: {record.reason or record.status}")
    return ResultFailure(f"actor raised {error.type}: {error.message}", error.type, error.message)
