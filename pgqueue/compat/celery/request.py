"""What a task knows of its own call: `self.request`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pgqueue import JobContext
from pgqueue.compat.missing import not_there

_OF_CELERY: Final = frozenset(
    {
        "argsrepr", "as_execution_options", "callbacks", "chain", "children", "chord", "clear",
        "errbacks", "eta", "expires", "group", "group_index", "ignore_result", "kwargsrepr", "lang",
        "logfile", "loglevel", "origin", "parent_id", "properties", "replaced_task_nesting",
        "reply_to", "root_id", "shadow", "soft_time_limit", "stamped_headers", "stamps", "taskset",
        "time_limit", "timelimit", "update", "utc",
    }
)  # fmt: skip
"""What a request has in Celery, and not here."""


class Request:
    """The call of a task that is running. Outside of one: of no task, as `called_directly` says."""

    def __init__(
        self,
        *,
        task: str | None = None,
        id: str | None = None,  # noqa: A002  # Celery's name
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        retries: int = 0,
        hostname: str | None = None,
        headers: Mapping[str, str] | None = None,
        delivery_info: Mapping[str, Any] | None = None,
        is_eager: bool = False,
        called_directly: bool = True,
        context: JobContext[Any] | None = None,
    ) -> None:
        self.task = task
        self.id = id
        self.args = args
        self.kwargs = kwargs
        self.retries = retries
        self.hostname = hostname
        self.headers = dict(headers or {})
        self.delivery_info = dict(delivery_info or {})
        self.is_eager = is_eager
        self.called_directly = called_directly
        self.correlation_id = id
        self.context = context
        """The context of the job, where pgqueue runs it: what pgqueue has beyond Celery."""
        self.is_entering = False
        """Whether the task's own `__call__` is under way, which calls the one of its base."""
        self.wanted: BaseException | None = None
        """The retry that `self.retry(throw=False)` asked for."""

    @classmethod
    def of_job(cls, context: JobContext[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request:
        """Return the request of a job."""
        return cls(
            task=context.task,
            id=str(context.job_id),
            args=list(args),
            kwargs=dict(kwargs),
            retries=context.retries,
            hostname=context.worker,
            headers={
                name: value
                for name, value in context.headers.items()
                if not name.startswith("pgqueue-celery-")
            },
            delivery_info={
                "exchange": "",
                "routing_key": context.queue,
                "priority": context.priority,
                "redelivered": context.losses > 0,
            },
            called_directly=False,
            context=context,
        )

    def get(self, name: str, default: Any = None) -> Any:
        """Return what is known by a name, be it of a header, or *default*. Raises as reading it does."""
        return getattr(self, name) if name in _OF_CELERY else getattr(self, name, default)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        headers = vars(self).get("headers", {})
        if name in headers:
            return headers[name]
        if name not in _OF_CELERY:
            raise AttributeError(f"the request has no {name!r}")
        raise not_there(
            f"request.{name}",
            "read the job: `app.pgqueue` has it by request.id, and request.context is pgqueue's JobContext",
        )

    def __repr__(self) -> str:
        return f"<Request {self.task}[{self.id}]>"
