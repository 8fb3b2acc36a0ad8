"""`Group`: jobs that are found together."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid4

from pgqueue.compat.rq.calls import EnqueueData
from pgqueue.compat.rq.connections import Redis, connection_of
from pgqueue.compat.rq.job import Job
from pgqueue.compat.rq.queue import GROUP_TAG, Queue


class Group:
    """Jobs that have a tag."""

    def __init__(self, connection: Redis, name: str | None = None) -> None:
        self.connection = connection_of(connection, "Group")
        self.name = name or uuid4().hex

    @classmethod
    def create(cls, connection: Redis, name: str | None = None) -> Group:
        """Return a group of this name."""
        return cls(connection, name)

    fetch = classmethod(lambda cls, name, connection: cls(connection, name))

    def enqueue_many(
        self, queue: Queue, job_datas: Iterable[EnqueueData], pipeline: object = None
    ) -> list[Job]:
        """Enqueue jobs of the group."""
        return queue.enqueue_many(job_datas, pipeline, group_id=self.name)

    def get_jobs(self) -> list[Job]:
        """Return its jobs, the oldest first."""
        found, cursor = list[Job](), None
        while True:
            page = self.connection.blocking.jobs(tag=GROUP_TAG + self.name, limit=1000, cursor=cursor)
            found += [Job(record=each, connection=self.connection) for each in page.jobs]
            cursor = page.cursor
            if cursor is None:
                return found[::-1]
