"""What becomes of received jobs: reads their calls, decides what follows a failure, and writes their ends."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pgqueue.background.notifications import Signals
from pgqueue.background.watching import Watches
from pgqueue.client.received import ReceivedJob
from pgqueue.database.pool import Database
from pgqueue.enqueueing.callers import Callers, Within
from pgqueue.errors import (
    ContextError,
    InvalidArgumentsError,
    InvalidOptionError,
    ReceiptLostError,
    ReceivedJobCancelled,
)
from pgqueue.events.attempts import AttemptEnded, AttemptsEnded
from pgqueue.events.kinds import DeadLettersEntered
from pgqueue.events.observers import Observers
from pgqueue.model.checks import Duration, finite_seconds, some_seconds
from pgqueue.model.job_error import JobError, describe
from pgqueue.model.jobs import TERMINAL, JobStatus
from pgqueue.model.outcomes import Ended, Released, Retried, Succeeded, next_in, status_after
from pgqueue.options.levels import Options, restore_options
from pgqueue.options.policy import Policy
from pgqueue.retry.decision import JobSoFar, decide, failed, retried
from pgqueue.retry.undecodable import met_undecodable, wait_or_fail
from pgqueue.store import Claimed, EndedReceipt, Input, InputResults, Received, Settled, Store
from pgqueue.tasks.any_task import any_task
from pgqueue.tasks.codec import Codec, encode_document
from pgqueue.tasks.definition import TaskDefinition
from pgqueue.tasks.refusals import TakesInputsError
from pgqueue.tasks.registry import Registry
from pgqueue.worker.attempt.inputs import Inputs

if TYPE_CHECKING:
    from pgqueue.database.callers import CallersConnection
    from pgqueue.database.connection import Connection

SHORTEST: Final = 0.1
LONGEST: Final = 12 * 3600.0
"""Seconds for which a job can be held at a time."""


class Receipts:
    """The received jobs of one PgQueue."""

    def __init__(
        self,
        database: Database,
        store: Store,
        registry: Registry,
        codec: Codec | None,
        signals: Signals,
        watches: Watches,
        observers: Observers,
        callers: Callers,
        rng: random.Random,
        payload_limit: int,
        grace: float | None,
    ) -> None:
        self._database = database
        self._store = store
        self._registry = registry
        self._codec = codec
        self._signals = signals
        self._watches = watches
        self._observers = observers
        self._callers = callers
        self._rng = rng
        self._payload_limit = payload_limit
        self._grace = grace
        """Seconds for which a job waits that cannot be decoded; None: for ever."""

    async def read_call(self, claimed: Claimed) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return the arguments of a received job. Raises what codec and validators raise."""
        stored = claimed.arguments
        if self._codec is not None:
            stored = self._codec.decode(stored)
        definition = self._definition(claimed.task)
        try:
            return definition.arguments.decode(stored)
        except TakesInputsError as takes:
            inputs = Inputs(self._inputs, self._input_results, self._codec)
            _, args, kwargs = await inputs.call(claimed.id, definition, stored, takes.inputs)
            return args, kwargs

    async def _inputs(self, node: UUID, after: int, limit: int) -> Sequence[Input]:
        return await self._database.repeat(
            lambda connection: self._store.read_inputs(connection, node, after, limit)
        )

    async def _input_results(self, node: UUID, after: int, limit: int, /, *, succeeded: bool) -> InputResults:
        return await self._database.repeat(
            lambda connection: self._store.read_results(connection, node, after, limit, succeeded=succeeded)
        )

    def _definition(self, task: str) -> TaskDefinition:
        return self._registry.get(task) or any_task(task)

    def _policy(self, row: Received, queue: str) -> Policy:
        """Return the options of a received job: an unreadable one counts as if it had none."""
        claimed = row.claimed
        definition = self._definition(claimed.task)
        call = Options()
        for stored in (row.task_options, claimed.options):
            if stored is not None:
                try:
                    call |= restore_options(stored)
                except InvalidOptionError:
                    continue
        return self._registry.policy(definition, queue, call)

    async def put_off(self, job: ReceivedJob, error: Exception) -> None:
        """Have a job wait that cannot be decoded here, as a worker does."""
        told = describe(error)
        message = f"the stored arguments do not match the task: {told.type}: {told.message}"
        met = met_undecodable(job.id, JobError("Undecodable", message))
        waited = await self._database.repeat(
            lambda connection: self._store.find_undecodable(connection, [job.id])
        )
        await self._end(job, wait_or_fail(met, waited.get(job.id, 0.0), self._grace))

    async def succeed(
        self, job: ReceivedJob, result: Any, connection: CallersConnection | None, *, autocommit: bool
    ) -> None:
        """See ReceivedJob.ack."""
        stored: str | None = None
        if result is not None and not self._policy(job.received, job.queue).ignore_result:
            try:
                document = self._definition(job.task).result.encode(result, limit=self._payload_limit)
                stored = encode_document(self._codec, document)
            except Exception as error:
                # Codec and serializers are the user's: they may raise anything.
                raise InvalidArgumentsError(
                    job.task, f"ack: the result of job {job.id} cannot be stored: {error}"
                ) from error
        within = None if connection is None else Within(connection, autocommit)
        await self._end(job, Succeeded(job.id, stored), within)

    async def give_back(
        self, job: ReceivedJob, delay: Duration | None, error: BaseException | str | None
    ) -> JobStatus:
        """See ReceivedJob.nack."""
        wanted = None if delay is None else some_seconds("nack: delay", delay)
        if error is not None and not isinstance(error, BaseException | str):
            raise InvalidOptionError(f"nack: error must be an exception or a string, got {error!r}")
        policy = self._policy(job.received, job.queue).retry
        claimed = job.received.claimed
        ran = time.monotonic() - job.received_at
        so_far = JobSoFar(job.id, claimed.attempt - 1, (claimed.age or 0.0) + ran, claimed.options)
        if isinstance(error, BaseException) and wanted is None:
            encode = partial(self._encode_call, job)
            outcome = decide(so_far, policy, error, info=job.info, encode=encode, rng=self._rng)
            if not isinstance(outcome, Retried | Ended):
                raise ContextError(f"job {job.id}: a received job can neither restart nor be suspended")
            return await self._end(job, outcome)
        cause = error if isinstance(error, BaseException) else None
        reason = "nacked" if cause is None else "exception"
        why = error if isinstance(error, str) and error else "the consumer gave it back"
        told = JobError("Nacked", why) if cause is None else describe(cause)
        retry = retried(so_far, policy, reason, told, cause=cause, wanted=(wanted, None), rng=self._rng)
        return await self._end(job, retry or failed(so_far, reason, told))

    async def return_unspent(self, job: ReceivedJob) -> JobStatus:
        """See ReceivedJob.release."""
        return await self._end(job, Released(job.id))

    async def extend(self, job: ReceivedJob, lease: Duration | None) -> datetime:
        """See ReceivedJob.extend."""
        seconds = job.lease if lease is None else read_lease("extend", lease)
        answer, until = await self._database.repeat(
            lambda connection: self._store.extend_receipt(connection, job.id, job.receipt, seconds)
        )
        if answer is None:
            job.is_ended = True
            raise ReceiptLostError("extend", job.id)
        if answer == "cancelled":
            raise ReceivedJobCancelled(job.id)
        job.held_until = until
        return until

    def _encode_call(self, job: ReceivedJob, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        document = self._definition(job.task).arguments.encode(args, kwargs, limit=self._payload_limit)
        return encode_document(self._codec, document)

    async def _end(self, job: ReceivedJob, outcome: EndedReceipt, within: Within | None = None) -> JobStatus:
        """Write how a received job ends, and tell of it. Raises ReceiptLostError."""
        settled = Settled()
        if within is not None:
            # Nobody is told: whether it is committed is not known here.
            async with self._callers.using("ack", within) as connection:
                answer = await self._store.end_receipt(
                    connection, job.receipt, outcome, settled, hand_over=False
                )
        else:
            answer = await self._database.repeat(partial(self._write, job, outcome, settled, []))
        job.is_ended = True
        if answer is None:
            raise ReceiptLostError(_VERBS[type(outcome)], job.id)
        status = JobStatus(answer)
        if within is None:
            self._tell(job, outcome, status, settled)
            if status is JobStatus.FAILED:
                await self._tell_dead(job)
        return status

    async def _write(
        self,
        job: ReceivedJob,
        outcome: EndedReceipt,
        settled: Settled,
        tries: list[None],
        connection: Connection,
    ) -> str | None:
        tries.append(None)
        answer = await self._store.end_receipt(connection, job.receipt, outcome, settled, hand_over=True)
        if answer is None and len(tries) > 1:
            # Written the first time, perhaps, and the answer was lost.
            answer = await self._written(job, outcome, connection)
        return answer

    async def _written(self, job: ReceivedJob, outcome: EndedReceipt, connection: Connection) -> str | None:
        """Return what an earlier try made of a job; None: nothing."""
        worker, number = job.info.worker, job.attempt
        found = (await self._store.read_jobs(connection, [job.id])).get(job.id)
        status, reason = status_after(outcome)
        if (
            found is not None
            and (found.worker, found.attempt) == (worker, number)
            and found.status in TERMINAL
        ):
            return found.status.value
        is_past = any(
            (past.worker, past.attempt, past.reason) == (worker, number, reason)
            for past in await self._store.read_attempts(connection, job.id)
        )
        return status.value if is_past else None

    def _tell(self, job: ReceivedJob, outcome: EndedReceipt, status: JobStatus, settled: Settled) -> None:
        for lane in settled.lanes | settled.own:
            self._signals.publish(f"ready {lane}")
        if settled.notes:
            self._signals.publish("attend")
        if status in TERMINAL:
            self._watches.hint([job.id])
            self._signals.publish_finished([job.id])
        if not self._observers.want(AttemptsEnded):
            return
        is_cancelled = status is JobStatus.CANCELLED
        ended = AttemptEnded(
            job_id=job.id,
            task=job.task,
            queue=job.queue,
            attempt=job.attempt,
            status=status,
            reason="cancelled" if is_cancelled else status_after(outcome)[1],
            seconds=time.monotonic() - job.received_at,
            waited=job.received.claimed.waited,
            worker=job.info.worker,
            error=outcome.error if isinstance(outcome, Retried | Ended) and not is_cancelled else None,
            next_in=None if is_cancelled else next_in(outcome),
        )
        self._observers.emit(AttemptsEnded([ended], is_success=status is JobStatus.SUCCEEDED))

    async def _tell_dead(self, job: ReceivedJob) -> None:
        if self._observers.want(DeadLettersEntered):
            letters = await self._database.repeat(
                lambda connection: self._store.read_letters(connection, [job.id]), is_asked=False
            )
            self._observers.emit(DeadLettersEntered(letters))


_VERBS: Final = {Succeeded: "ack", Retried: "nack", Ended: "nack", Released: "release"}


def read_lease(verb: str, lease: Duration) -> float:
    """Return for how many seconds a job is held. Raises InvalidOptionError."""
    seconds = finite_seconds(f"{verb}: lease", lease)
    if not SHORTEST <= seconds <= LONGEST:
        raise InvalidOptionError(
            f"{verb}: lease must be from {SHORTEST:g} to {LONGEST:,.0f} seconds, got {lease!r}"
        )
    return seconds
