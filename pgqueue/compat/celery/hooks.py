"""What a task of Celery's may override, beside what it does."""

from __future__ import annotations

from typing import Any


class Hooks:
    """Is told what becomes of each call of a task."""

    def before_start(self, task_id: Any, args: Any, kwargs: Any) -> None:
        """Called before `run`."""

    def on_success(self, retval: Any, task_id: Any, args: Any, kwargs: Any) -> None:
        """Called once `run` has returned."""

    def on_retry(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called before the task is retried."""

    def on_failure(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the task has failed."""

    def after_return(
        self, status: Any, retval: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called behind all others."""
