"""The result of a task that was run in place."""

from __future__ import annotations

from typing import Any

from pgqueue.compat.celery import states
from pgqueue.compat.celery.base_result import BaseResult, check_blocking


class EagerResult(BaseResult):
    """The result of a task that was run in place, by `apply` or with task_always_eager."""

    def __init__(
        self,
        id: str,  # noqa: A002  # Celery's name
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
    ) -> None:
        self.id = self.task_id = str(id)
        self.result = self.info = ret_value
        self.state = self.status = state
        self.traceback = traceback
        self.name = self.task_name = name
        self.ignored = False

    def ready(self) -> bool:
        """Whether it has ended: always."""
        return True

    def successful(self) -> bool:
        """Whether it has succeeded."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether it has failed."""
        return self.state == states.FAILURE

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        disable_sync_subtasks: bool = True,
        **_: Any,
    ) -> Any:
        """Return what it returned, or raise what it raised. RuntimeError inside a task."""
        del timeout
        check_blocking(disable_sync_subtasks=disable_sync_subtasks)
        if self.state in states.PROPAGATE_STATES and propagate:
            raise self.result if isinstance(self.result, BaseException) else Exception(self.result)
        return self.result

    wait = get

    def maybe_throw(self, propagate: bool = True, callback: Any = None) -> Any:
        """Raise what it raised; else return its result."""
        del callback
        return self.get(propagate=propagate, disable_sync_subtasks=False)

    def forget(self) -> None:
        """Do nothing: nothing was stored."""

    def revoke(self, *_: Any, **__: Any) -> None:
        """Note that it is revoked."""
        self.state = self.status = states.REVOKED

    def as_tuple(self) -> Any:
        """Return its id, in Celery's form."""
        return (self.id, None), None
