"""Durable functions: events that are sent to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pgqueue.client.jobs import JobInterface
from pgqueue.database.callers import Refusal, refusal_of
from pgqueue.database.encoding import unstorable
from pgqueue.enqueueing.callers import Within
from pgqueue.errors import InvalidEventError, InvalidOptionError, InvalidStepError, JobOverError
from pgqueue.model.checks import check_notes, text
from pgqueue.model.ids import new_id, read_id
from pgqueue.model.jobs import TERMINAL
from pgqueue.store import Sent
from pgqueue.tasks.codec import encode_document
from pgqueue.tasks.handle import JobHandle
from pgqueue.tasks.return_value import result_of
from pgqueue.tasks.step_names import check_step_name

if TYPE_CHECKING:
    from pgqueue.database.callers import CallersConnection
    from pgqueue.database.connection import Connection

MAX_NAME: Final = 194
MAX_DEDUP_ID: Final = 255
_PLAIN: Final = frozenset({type(None), bool, int, float, str, list, tuple, dict})


class DurableInterface(JobInterface):
    """What users can do with jobs that wait for events."""

    async def signal(
        self,
        job_id: UUID | str,
        name: str,
        value: Any = None,
        *,
        dedup_id: str | None = None,
        connection: CallersConnection | None = None,
        autocommit: bool = False,
    ) -> bool:
        """Send a job the event *name*, for which it waits by `ctx.wait_for_event`; False: a duplicate.

            await pgq.signal(job.id, "approved", Approval(by="ann"), dedup_id="mail-17")

        An event that comes before the job waits for it is kept until then. *value* is stored as JSON, and
        validated by the job. Of the events of one name and *dedup_id* (1 to 255 characters) a job gets the
        first, however often they are sent: senders that are not sure can send again. With *connection*, it
        is sent by the commit of your transaction, and a waiting job goes on within a second of that;
        *autocommit* as for `enqueue_many`.

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
                sent = await self._store.signal(own, job_id, name, payload, dedup_id, is_deferred=False)
        else:
            sent = await self._signal_within(
                connection, job_id, name, payload, dedup_id, autocommit=autocommit
            )
        if sent.answer == "unknown":
            async with self._database.acquire() as own:
                raise await self._missing(own, job_id)
        if sent.answer not in ("sent", "duplicate"):
            raise JobOverError(job_id, sent.answer)
        if sent.lane is not None:
            self._signals.publish(f"ready {sent.lane}")
            self._signals.publish("attend")
        return sent.answer == "sent"

    async def _signal_within(
        self,
        connection: CallersConnection,
        job_id: UUID,
        name: str,
        payload: str,
        dedup_id: str | None,
        *,
        autocommit: bool,
    ) -> Sent:
        try:
            within = Within(connection, autocommit=autocommit)
            async with self._callers.using("signal", within) as theirs:
                return await self._store.signal(theirs, job_id, name, payload, dedup_id, is_deferred=True)
        except Exception as error:
            if refusal_of(error) is not Refusal.TEXT:
                raise
            raise unstorable(error) from error

    async def restart_from(
        self, job_id: UUID | str, step: str, *, reason: str | None = None, actor: str | None = None
    ) -> None:
        """Make an ended job pending again, under the same id, without *step* and what it stored after it.

        Its handler runs again: steps and waits before *step* answer from the store. Use it to run a part
        again whose code was wrong. Raises JobNotFoundError; InvalidStepError if the job has not ended, or has
        no such step; InvalidOptionError.
        """
        job_id = read_id(job_id)
        check_step_name(step)
        check_notes("restart_from", actor=actor, reason=reason)
        async with self._database.acquire() as connection, connection.transaction():
            forgotten = await self._store.forget_steps(connection, job_id, step)
            if not forgotten:
                raise await self._no_step(connection, job_id, step, forgotten)
            requeued = await self._requeue(connection, [job_id], TERMINAL, reason, actor)
        self._tell_requeued(requeued, reason)

    async def fork(self, job_id: UUID | str, step: str) -> JobHandle[Any]:
        """Make a new job of an ended one, with what that had stored before *step*; return its handle.

        The job has the same arguments, options, headers, tags and key, and the other one stays as it is.
        Raises JobNotFoundError; InvalidStepError if the job has not ended, or has no such step.
        """
        job_id = read_id(job_id)
        check_step_name(step)
        copy = new_id()
        async with self._database.acquire() as connection:
            lane = await self._store.fork(connection, job_id, step, copy)
            if not lane:
                raise await self._no_step(connection, job_id, step, lane)
        self._signals.publish(f"ready {lane}")
        self._signals.publish("attend")
        return JobHandle(self, copy, None)

    async def _no_step(self, connection: Connection, job_id: UUID, step: str, found: int | None) -> Exception:
        if found is not None:
            return InvalidStepError(f"job {job_id} has no step {step!r}; nothing was changed")
        if await self._store.find_existing(connection, [job_id]):
            return InvalidStepError(f"job {job_id} has not ended; cancel it first, nothing was changed")
        return await self._missing(connection, job_id)

    def _encoded_event(self, name: str, value: Any) -> str:
        try:
            kept = result_of(f"event {name!r}", Any if type(value) in _PLAIN else type(value))
            document = kept.encode(value, limit=self.payload_limit)
            return encode_document(self._codec, document)
        except Exception as error:
            # The codec and the serializers are the user's: they may raise anything.
            problem = str(error).replace("the result", "its value", 1)
            raise InvalidEventError(f"signal: event {name!r} cannot be sent: {problem}") from error
