"""The settings of a status app, from the service around it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from inspect import signature
from typing import Any, Concatenate, Literal, ParamSpec, cast

from starlette.applications import Starlette
from starlette.requests import Request

from pgqueue.app import PgQueue
from pgqueue.errors import ConfigurationError
from pgqueue.metrics import Metrics
from pgqueue.model.jobs import Job
from pgqueue.model.token import check_token

P = ParamSpec("P")

Action = Literal[
    "read",
    "enqueue",
    "cancel",
    "requeue",
    "redrive",
    "discard",
    "reprioritise",
    "edit",
    "run_now",
    "pause",
    "resume",
    "configure",
    "remove",
    "signal",
]
"""What a request asks for. All but "read" change something."""

Authorize = Callable[[Request, Action, str], bool | Awaitable[bool]]
"""Whether a request may do an action to a resource: "job:ID", "workflow:ID", "schedule:NAME", "limit:NAME",
"queue:NAME", "task:NAME", or a collection: "jobs", "workflows", "schedules", "limits", "dead_letters",
"queues", "tasks", "workers", "metrics", "openapi". A collection spans all owners, and so do a workflow, a
schedule and a limit. Changing a limit, and returning it to what code declared, is "configure".
A submission is asked about as "enqueue" of "jobs", of its "task:NAME", and of the "queue:NAME" and the
"priority:NUMBER" that it names. Making a schedule is "configure" of "schedules" and of its "schedule:NAME",
and changing one of the latter; both are asked about the call as a submission is. A tick now is "enqueue"."""

Owns = Callable[[Request, Job], bool | Awaitable[bool]]
"""Whether the requester owns a job. To others it does not exist."""

ActorOf = Callable[[Request], str]
"""The user that a request is from."""

HeadersOf = Callable[[Request], Mapping[str, str]]
"""Headers for the jobs that a request submits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """Settings of one status app. Times are in seconds, sizes in bytes."""

    counted: Metrics | None = None
    """The metrics to show. None: the app counts from now on by itself."""
    name: str = "pgqueue"
    """Name of this instance, shown on every page, so that production and staging do not look alike."""
    colour: str | None = None
    """Colour of the instance, as `#rrggbb`."""
    trace_url: str | None = None
    """Where traces are seen, as `https://tempo.example/trace/{trace_id}`: pages of jobs that have a header
    `traceparent` link to it."""
    dashboard: bool | None = None
    """Whether there are pages for people. None: if jinja2 is installed, with
    `pip install 'pgqueue-asyncio[web]'`."""
    token: str | None = None
    """A request with it (`Authorization: Bearer TOKEN`, or the dashboard's login) may do everything. At least
    16 characters."""
    open_reading: bool = False
    """Whether every request that the network lets through may read, without a token."""
    local_reading: bool = False
    """Whether programs and browsers on this machine may read, without a token. A proxy on this machine that
    adds no header of its own makes everyone look as if they were on it."""
    read_only: bool = False
    """Whether the app changes nothing, whoever asks: not with the token, and not where a hook allows it. Its
    pages then offer nothing that does."""
    allowed_hosts: Sequence[str] = ()
    """Names, besides localhost, under which an app with `local_reading` may be read."""
    authorize: Authorize | None = None
    """The host service's hook. Called for every request without a valid token. An error in it refuses the
    request; an HTTPException is its response."""
    owns: Owns | None = None
    """Whether the requester owns a job, by any rule. Lists read the jobs of all owners and ask about each.
    With neither it nor `owner_header`, jobs have no owners. It needs `actor`."""
    owner_header: bool = False
    """Whether a job belongs to the user whom its header `owner` names, as `actor` does. What a request
    submits belongs to its actor. Lists are narrowed by the database, once `PgQueue.index_owners` has run.
    It takes the place of `owns`, and needs `actor`."""
    authorize_shared: Authorize | None = None
    """Where jobs have owners: the hook for what spans all of them, which is asked instead of `authorize`.
    That is every collection but the lists of the requester's own jobs and dead letters, every workflow,
    every queue, every task, and the choice of a job's id. None: only a request with the token may."""
    actor: ActorOf | None = None
    """The user that a request is from, for the job history. Idempotency keys are scoped to it, where jobs
    have owners also those that a task declares."""
    job_headers: HeadersOf | None = None
    """Headers of a request's jobs, over those that it sends: for example the owner, for `owns` to read."""
    allow_unknown_tasks: bool = False
    """Whether jobs of tasks that this process does not declare may be submitted: workers validate them."""
    async_protocol: bool = False
    """Whether a poll of a job that has not ended gets 202 and `Location`, and one of a result 303."""
    require_idempotency_key: bool = False
    """Whether submissions need an `Idempotency-Key`."""
    show_tracebacks: bool = False
    body_limit: int = 1024 * 1024
    body_timeout: float = 10.0
    """Time for a request's body to arrive."""
    max_wait: float = 30.0
    """The longest wait of a poll."""
    max_waiters: int = 1000
    """Concurrent long polls in this process."""
    max_streams: int = 1000
    """Concurrent event streams in this process."""
    keep_alive: float = 15.0
    """Interval of comments on an idle event stream, which keep the connection open."""
    send_timeout: float = 30.0
    """Time for a client to receive a part of an event stream; after that the stream is dropped."""

    def __post_init__(self) -> None:
        """Raise ConfigurationError for settings that are invalid, or would leave the app open."""
        if self.token is not None:
            check_token(self.token)
        if self.owns is not None and self.owner_header:
            raise ConfigurationError("the status app takes owns=... or owner_header=True, and not both")
        if self.has_owners and self.actor is None:
            what = "owner_header=True" if self.owner_header else "owns=..."
            raise ConfigurationError(
                f"the status app has {what} and no actor=...: idempotency keys could not be kept apart by "
                "owner; pass actor, which returns the name of the user that a request is from"
            )
        if self.authorize_shared is not None and not self.has_owners:
            raise ConfigurationError(
                "the status app has authorize_shared=... and no owns=...: without owners, authorize decides"
            )
        if self.colour is not None and not re.fullmatch(r"#[0-9a-fA-F]{6}", self.colour):
            raise ConfigurationError(f"the status app's colour must look like '#rrggbb', got {self.colour!r}")
        if self.trace_url is not None and not re.fullmatch(
            r"https?://[^\s{}]*\{trace_id\}[^\s{}]*", self.trace_url
        ):
            raise ConfigurationError(
                "the status app's trace_url must be an address with {trace_id} in it, as "
                f"'https://tempo.example/trace/{{trace_id}}', got {self.trace_url!r}"
            )
        if isinstance(self.allowed_hosts, str):
            raise ConfigurationError(
                f"the status app's allowed_hosts must be a list of names, got {self.allowed_hosts!r}"
            )

    @property
    def has_owners(self) -> bool:
        """Whether jobs have owners."""
        return self.owns is not None or self.owner_header


def takes(
    settings: Callable[P, WebSettings],
) -> Callable[[Callable[[PgQueue, WebSettings], Starlette]], Callable[Concatenate[PgQueue, P], Starlette]]:
    """Let a function take *settings* as keyword arguments, whose names and types only *settings* lists."""

    def decorate(
        make: Callable[[PgQueue, WebSettings], Starlette],
    ) -> Callable[Concatenate[PgQueue, P], Starlette]:
        @wraps(make)
        def with_options(pgq: PgQueue, *args: P.args, **options: P.kwargs) -> Starlette:
            return make(pgq, settings(*args, **options))

        own = signature(make)
        # Any: at run time *pgq* can also be given by name, which has no type beside P.
        made: Any = with_options
        made.__signature__ = own.replace(
            parameters=[own.parameters["pgq"], *signature(settings).parameters.values()]
        )
        return cast("Callable[Concatenate[PgQueue, P], Starlette]", made)

    return decorate
