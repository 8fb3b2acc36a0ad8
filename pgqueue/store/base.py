"""What all statements share: their texts, and how to send lists and durations."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgqueue.database.encoding import Encoding
from pgqueue.database.sql import load_statements
from pgqueue.events.kinds import JobMoved
from pgqueue.model.jobs import JobStatus

if TYPE_CHECKING:
    from asyncpg import Record


class Statements:
    """The texts of the statements for one schema, by name."""

    def __init__(self, schema: str) -> None:
        self._sql = load_statements(schema)
        self.encoding: Encoding | None = None
        """The database's encoding, once it is open; None: UTF8."""

    def _document(self, document: str) -> str:
        """Return a JSON document as the database can store it."""
        return document if self.encoding is None else self.encoding.document(document)

    def _documents(self, documents: Iterable[str | None]) -> list[str | None]:
        return [None if each is None else self._document(each) for each in documents]


def id_list(ids: Iterable[UUID | str]) -> str:
    """Return *ids* as one string, {ID,ID,...}."""
    # As a string, because asyncpg checks twice, in Python, whether an element of a list is itself a list.
    return f"{{{','.join(map(str, ids))}}}"


def text_array(texts: Iterable[str]) -> str:
    """Return *texts* as one string, {"TEXT","TEXT",...}."""
    quoted = (each.replace("\\", r"\\").replace('"', r"\"") for each in texts)
    return '{"' + '","'.join(quoted) + '"}'


def interval(seconds: float | None) -> timedelta | None:
    """Return *seconds* as a duration for PostgreSQL; None stays None."""
    return None if seconds is None else timedelta(seconds=seconds)


def used(column: list[Any]) -> list[Any] | None:
    """Return a column of values, or None if all values are null, so that they need not be sent."""
    return None if column.count(None) == len(column) else column


def job_moved(row: Record, status: JobStatus) -> JobMoved:
    """Return a row's job as one that now has *status*."""
    return JobMoved(row["id"], row["task"], row["queue"] or "", JobStatus(row["was"]), status, row["attempt"])
