"""Durable functions: events that are sent to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pgqueue.client.parts import Parts
from pgqueue.database.encoding import UNSTORABLE, unstorable
from pgqueue.errors import InvalidEventError, InvalidOptionError, JobOverError
from pgqueue.model.checks import text
from pgqueue.model.ids import read_id
from pgqueue.tasks.arguments import result_of
from pgqueue.tasks.codec import encode_document

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

MAX_NAME: Final = 194
MAX_DEDUP_ID: Final = 255
_PLAIN: Final = frozenset({type(None), bool, int, float, str, list, tuple, dict})


class DurableInterface(Parts):
    """What users can do with jobs that wait for events."""

    async def signal(
        self,
        job_id: UUID | str,
        name: str,
        value: Any = None,
        *,
        dedup_id: str | None = None,
        connection: Connection | None = None,
    ) -> bool:
        """Send a job the event *name*, for which it waits by `ctx.wait_for_event`; False: a duplicate.

            await pgq.signal(job.id, "approved", Approval(by="ann"), dedup_id="mail-17")

        An event that comes before the job waits for it is kept until then. *value* is stored as JSON, and
        validated by the job. Of the events of one name and *dedup_id* (1 to 255 characters) a job gets the
        first, however often they are sent: senders that are not sure can send again. With *connection*, it
        is sent by the commit of your transaction, and a waiting job goes on within a second of that.

        Raises JobNotFoundError; JobOverError if the job has ended; InvalidEventError for a value that
        cannot be stored; InvalidOptionError; DatabaseUnavailableError.
        """
        job_id = read_id(job_id)
        text("signal: the name of an event", name, longest=MAX_NAME)
        if not name.isprintable():
            raise InvalidOptionError(
                f"signal: the name of an event must contain only printable characters, got {name!r}"
            )
        if dedup_id is not None:
            text("signal: dedup_id", dedup_id, longest=MAX_DEDUP_ID)
        payload = self._encoded_event(name, value)
        self._check_open()
        if connection is None:
            async with self._database.acquire() as own:
                return await self._send_event(own, job_id, name, payload, dedup_id, is_deferred=False)
        try:
            return await self._send_event(connection, job_id, name, payload, dedup_id, is_deferred=True)
        except UNSTORABLE as error:
            raise unstorable(error) from error

    async def _send_event(
        self,
        connection: Connection,
        job_id: UUID,
        name: str,
        payload: str,
        dedup_id: str | None,
        *,
        is_deferred: bool,
    ) -> bool:
        sent = await self._store.signal(connection, job_id, name, payload, dedup_id, is_deferred=is_deferred)
        if sent.answer == "unknown":
            raise await self._missing(connection, job_id)
        if sent.answer not in ("sent", "duplicate"):
            raise JobOverError(job_id, sent.answer)
        if sent.lane is not None:
            self._signals.publish(f"ready {sent.lane}")
        return sent.answer == "sent"

    def _encoded_event(self, name: str, value: Any) -> str:
        try:
            kept = result_of(f"event {name!r}", Any if type(value) in _PLAIN else type(value))
            document = kept.encode(value, limit=self.payload_limit)
            return encode_document(self._codec, document)
        except Exception as error:
            # The codec and the serializers are the user's: they may raise anything.
            problem = str(error).replace("the result", "its value", 1)
            raise InvalidEventError(f"signal: event {name!r} cannot be sent: {problem}") from error
