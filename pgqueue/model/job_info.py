"""What a handler can know about its job."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class JobInfo:
    """The running job: its id, where it was enqueued, and which attempt this is."""

    __slots__ = (
        "_created",
        "_headers",
        "_tags",
        "attempt",
        "job_id",
        "key",
        "losses",
        "priority",
        "queue",
        "task",
        "worker",
    )

    def __init__(
        self,
        *,
        job_id: UUID,
        task: str,
        queue: str,
        priority: int,
        attempt: int,
        losses: int,
        key: str | None,
        headers: str | None,
        worker: str,
        tags: str | None = None,
        created: float | None = None,
    ) -> None:
        self.job_id = job_id
        self.task = task
        self.queue = queue
        self.priority = priority
        self.attempt = attempt
        """1 for the first attempt. Attempts lost with their worker do not count."""
        self.losses = losses
        """How often the job returned to the queue because its worker was lost."""
        self.key = key
        self.worker = worker
        self._headers = headers
        self._tags = tags
        self._created = created

    @property
    def retries(self) -> int:
        """0 for the first attempt."""
        return self.attempt - 1

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the caller set."""
        return dict(json.loads(self._headers)) if self._headers else {}

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that the caller set."""
        return tuple(json.loads(self._tags)) if self._tags else ()

    @property
    def created_at(self) -> datetime | None:
        """When the job was enqueued, by the database's clock."""
        # From seconds as they are: a microsecond may be lost on the way through `fromtimestamp`.
        return None if self._created is None else _EPOCH + timedelta(microseconds=round(self._created * 1e6))

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt, and unique to this job: for services that deduplicate."""
        return str(self.job_id)
