"""Results of tasks, read from their jobs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from pgqueue import Job, JobDidNotSucceed, JobNotFoundError, JobStatus, ResultTimeoutError
from pgqueue.compat.celery import current, states
from pgqueue.compat.celery.base_result import BaseResult, allow_join_result, check_blocking
from pgqueue.compat.celery.eager_result import EagerResult
from pgqueue.compat.celery.errors import (
    IGNORED,
    exception_of,
    is_orphan,
    state_of,
    told_exception,
    told_meta,
    told_state,
)
from pgqueue.compat.celery.exceptions import ChordError, TimeoutError  # noqa: A004  # Celery's name
from pgqueue.compat.celery.group_result import GroupResult, ResultSet
from pgqueue.compat.celery.wire import unpack
from pgqueue.compat.missing import not_there

__all__ = ["AsyncResult", "EagerResult", "GroupResult", "ResultSet", "allow_join_result"]


class AsyncResult(BaseResult):
    """The result of a task, by its id. An id that no job has is of a task that is PENDING, as in Celery."""

    TimeoutError = TimeoutError

    def __init__(
        self,
        id: Any,  # noqa: A002  # Celery's name
        backend: Any = None,
        task_name: str | None = None,
        app: Any = None,
        parent: Any = None,
        *,
        is_chord: bool = False,
    ) -> None:
        if backend is not None:
            raise not_there("AsyncResult(backend=...)", "leave it out: results are in the app's database")
        if id is None:
            raise ValueError(f"AsyncResult requires a valid id, not {type(id)}")
        self.id = str(id)
        self.task_name = task_name
        self.ignored = False
        self._app = app
        self._parent = parent
        self._is_chord = is_chord
        self._known: Job | None = None
        self._is_forgotten = False

    # Reading

    @property
    def app(self) -> Any:
        """The app that it belongs to."""
        return self._app if self._app is not None else current.find_app()

    @property
    def task_id(self) -> str:
        """The same as `id`."""
        return self.id

    def _read(self) -> Job | None:
        if self._known is not None:
            return self._known
        if self._is_forgotten:
            return None
        try:
            job: Job = self.app.client.get(UUID(self.id))
        except (JobNotFoundError, ValueError):
            return None
        if job.is_terminal:
            self._known = job
        return job

    @property
    def state(self) -> str:
        """How far the task is, by Celery's names: see `states`."""
        job = self._read()
        return state_of(job, tracks_started=self._tracks_started(job))

    @property
    def status(self) -> str:
        """The same as `state`."""
        return self.state

    def _tracks_started(self, job: Job | None) -> bool:
        task = None if job is None else self.app.tasks.get(job.task)
        tracks: bool | None = getattr(task, "track_started", None)
        return bool(self.app.conf.task_track_started) if tracks is None else tracks

    @property
    def result(self) -> Any:
        """The value that the task returned, the exception that it ended with, or what `update_state` told."""
        job = self._read()
        if job is None:
            return None
        if job.status is JobStatus.SUCCEEDED:
            return unpack(job.result)
        if told_state(job) is not None and (not job.is_terminal or self.state == told_state(job)):
            told = told_meta(job)
            return told_exception(told) if self.state in states.PROPAGATE_STATES else told
        if job.is_terminal or self.state == states.RETRY:
            return self._failure(job) if self.state != states.IGNORED else None
        return None

    @property
    def info(self) -> Any:
        """The same as `result`."""
        return self.result

    @property
    def traceback(self) -> str | None:
        """The traceback of the error that it ended with, or of its latest attempt."""
        job = self._read()
        error = None if job is None else job.error or job.last_error
        return None if error is None else error.traceback

    @property
    def date_done(self) -> datetime | None:
        """When the task ended, with its time zone."""
        job = self._read()
        return None if job is None else job.completed_at

    @property
    def name(self) -> str | None:
        """The name of the task."""
        job = self._read()
        return self.task_name if job is None else job.task

    @property
    def args(self) -> Any:
        """Not there."""
        raise not_there("result.args", "read `app.pgqueue`'s job: its arguments are by name")

    kwargs = args

    @property
    def retries(self) -> int | None:
        """How often it was retried."""
        job = self._read()
        return None if job is None else max(0, job.attempt - 1)

    @property
    def queue(self) -> str | None:
        """The queue of its job."""
        job = self._read()
        return None if job is None else job.queue

    @property
    def worker(self) -> str | None:
        """The worker that ran it last."""
        job = self._read()
        return None if job is None else job.worker

    def ready(self) -> bool:
        """Whether the task has ended."""
        job = self._read()
        return job is not None and job.is_terminal

    def successful(self) -> bool:
        """Whether it has succeeded."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether it has failed."""
        return self.state == states.FAILURE

    # Waiting

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], object] | None = None,
        on_message: Any = None,
        on_interval: Any = None,
        disable_sync_subtasks: bool = True,
        **_: Any,
    ) -> Any:
        """Wait until the task has ended, and return what it returned.

        Raises the exception that it ended with unless *propagate* is false; TimeoutError after *timeout*
        seconds; RuntimeError inside a task, unless *disable_sync_subtasks* is false; JobNotFoundError for an
        id that no job has.
        """
        del interval, no_ack
        if self.ignored:
            return None
        check_blocking(disable_sync_subtasks=disable_sync_subtasks)
        if on_message is not None or on_interval is not None:
            raise not_there("on_message=", "read `.state` and `.info` in a loop")
        job = self._wait(timeout)
        if job.status is JobStatus.SUCCEEDED:
            value = unpack(job.result)
            if callback is not None:
                callback(self.id, value)
            return value
        if job.reason == IGNORED:
            return self._told(propagate=propagate)
        error = self._failure(job)
        if propagate and follow_parents and is_orphan(job):
            # As there: the error of the task before it, and not that the chord has failed.
            failed = self._first_failed(job)
            error = error if failed is None else exception_of(failed)
        if propagate:
            raise error
        return error

    wait = get

    def _told(self, *, propagate: bool) -> Any:
        """Return what a task that has raised Ignore has told of itself before; None: nothing."""
        if self.state not in states.PROPAGATE_STATES:
            return self.result if self.state == states.SUCCESS else None
        if propagate:
            raise self.result
        return self.result

    def _wait(self, timeout: float | None) -> Job:
        if self._known is None:
            client = self.app.client
            try:
                client.handle(UUID(self.id)).result(timeout)
            except JobDidNotSucceed:
                pass
            except ResultTimeoutError as error:
                raise TimeoutError("The operation timed out.") from error
            self._known = client.get(UUID(self.id))
        assert self._known is not None
        return self._known

    def maybe_throw(self, propagate: bool = True, callback: Any = None) -> Any:
        """Raise the exception of a task that has failed; else return its result."""
        job = self._read()
        if job is not None and self.state in states.PROPAGATE_STATES and propagate:
            raise self._failure(job)
        if callback is not None:
            callback(self.id, self.result)
        return self.result

    maybe_reraise = maybe_throw

    def _failure(self, job: Job) -> BaseException:
        if not is_orphan(job):
            return exception_of(job)
        # It never ran, because of another job of its workflow.
        failed = self._first_failed(job)
        if failed is None:
            return ChordError(job.error.message if job.error else "a task before it did not succeed")
        cause = exception_of(failed)
        return ChordError(f"Dependency {failed.id} raised {cause!r}") if self._is_chord else cause

    @property
    def culprit(self) -> AsyncResult:
        """The result of the task because of which this one did not succeed: it, or one before it."""
        job = self._read()
        failed = None if job is None or not is_orphan(job) else self._first_failed(job)
        return self if failed is None else AsyncResult(failed.id, app=self._app)

    def _first_failed(self, job: Job) -> Job | None:
        client = self.app.client
        workflow = client.workflow_of(job.id)
        if workflow is None:
            return None
        for status in (JobStatus.FAILED, JobStatus.EXPIRED, JobStatus.CANCELLED):
            for member in client.workflow_jobs(workflow, status=status).jobs:
                found: Job = client.get(member.id)
                if not is_orphan(found):
                    return found
        return None

    # The others of its workflow

    @property
    def parent(self) -> Any:
        """The result of what comes before it in its chain: of one task, or of a group. None: nothing."""
        if self._parent is None:
            self._parent = self.app.results_before(UUID(self.id))
        return self._parent

    @parent.setter
    def parent(self, parent: Any) -> None:
        self._parent = parent

    @property
    def children(self) -> Any:
        """Not there."""
        raise not_there("result.children", "read the workflow: `pgqueue workflow show ID`, or the dashboard")

    def collect(self, *_: Any, **__: Any) -> Any:
        """Not there."""
        raise not_there("result.collect()", "walk from the last result by `.parent`")

    # Changing

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: Any = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Cancel the task unless it runs; one that runs only if *terminate* is set."""
        del connection, wait, timeout
        self.app.control.revoke(self.id, terminate=terminate, signal=signal)

    def forget(self) -> None:
        """Forget the result here. Its row is removed after its retention."""
        self._known, self._is_forgotten = None, True

    def as_tuple(self) -> tuple[tuple[str, Any], None]:
        """Return the ids of this result and of its parent, in Celery's form."""
        parent = self._parent
        return (self.id, None if parent is None else parent.as_tuple()), None
