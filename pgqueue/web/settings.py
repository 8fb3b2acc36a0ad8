"""What a status app is told by the service around it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from starlette.requests import Request

from pgqueue.errors import ConfigurationError
from pgqueue.model.jobs import Job

Action = Literal[
    "read",
    "enqueue",
    "cancel",
    "requeue",
    "redrive",
    "discard",
    "reprioritise",
    "pause",
    "resume",
    "configure",
]
"""What somebody asks the app for. All but "read" change something."""

Authorize = Callable[[Request, Action, str], bool | Awaitable[bool]]
"""Whether a request may do an action to a resource: "job:ID", "queue:NAME", "task:NAME", or a collection:
"jobs", "dead_letters", "queues", "tasks", "workers", "metrics", "openapi". A collection is everybody's."""

Owns = Callable[[Request, Job], bool | Awaitable[bool]]
"""Whether a job is the requester's. To everybody else it does not exist."""

ActorOf = Callable[[Request], str]
"""Who a request is from."""

HeadersOf = Callable[[Request], Mapping[str, str]]
"""Headers for the jobs that a request submits."""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Settings of one status app. Times are in seconds, sizes in bytes."""

    name: str = "pgqueue"
    """What this instance is called, so that production and staging do not look alike."""
    colour: str | None = None
    """Of the instance: a CSS colour as `#rrggbb`."""
    dashboard: bool | None = None
    """Whether there are pages for people. None: if jinja2 is there (`pip install 'pgqueue[web]'`)."""
    token: str | None = None
    """Who presents it (`Authorization: Bearer TOKEN`, or the dashboard's login) may do everything."""
    open_reading: bool = False
    """Whether everybody whom the network lets through may read, without a token."""
    allowed_hosts: Sequence[str] = ()
    """Names, besides localhost, under which the app may be read where it has neither token nor hook."""
    authorize: Authorize | None = None
    """The host service's own say. Asked for every request that presents no valid token. An error in it is a
    refusal; an HTTPException is answered as it is."""
    owns: Owns | None = None
    """None: jobs have no owners."""
    actor: ActorOf | None = None
    """Who a request is from, for a job's history; and whose its idempotency key is."""
    job_headers: HeadersOf | None = None
    """What a request's jobs carry as headers, whatever it says itself: who owns them, for `owns` to read."""
    allow_unknown_tasks: bool = False
    """Whether jobs of tasks that this process does not know may be submitted: their workers validate them."""
    async_protocol: bool = False
    """Whether a job that is not over is answered with 202 and `Location`, and a result by 303."""
    require_idempotency_key: bool = False
    """Whether a submission without `Idempotency-Key` is refused."""
    show_tracebacks: bool = False
    body_limit: int = 1024 * 1024
    body_timeout: float = 10.0
    """For a request's body to arrive."""
    max_wait: float = 30.0
    """The longest that a poll may ask to wait."""
    max_waiters: int = 1000
    """Long polls at once, in this process."""
    max_streams: int = 1000
    """Event streams at once, in this process."""
    keep_alive: float = 15.0
    """Between two signs of life on an event stream on which nothing happens."""
    send_timeout: float = 30.0
    """For a client to take in a part of an event stream; after that the stream is dropped."""

    def __post_init__(self) -> None:
        """Raise ConfigurationError for what would leave the app open, or could never be presented."""
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise ConfigurationError(
                "the status app's token must be a text of visible ASCII characters without spaces, e.g. "
                "from `python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
            )
        if self.colour is not None and not re.fullmatch(r"#[0-9a-fA-F]{6}", self.colour):
            raise ConfigurationError(f"the status app's colour is {self.colour!r}: give one as '#rrggbb'")
        if isinstance(self.allowed_hosts, str):
            raise ConfigurationError(
                f"the status app's allowed_hosts are {self.allowed_hosts!r}: give a list of names"
            )


class WebOptions(TypedDict, total=False):
    """WebSettings as keyword arguments."""

    name: str
    colour: str | None
    dashboard: bool | None
    token: str | None
    open_reading: bool
    allowed_hosts: Sequence[str]
    authorize: Authorize | None
    owns: Owns | None
    actor: ActorOf | None
    job_headers: HeadersOf | None
    allow_unknown_tasks: bool
    async_protocol: bool
    require_idempotency_key: bool
    show_tracebacks: bool
    body_limit: int
    body_timeout: float
    max_wait: float
    max_waiters: int
    max_streams: int
    keep_alive: float
    send_timeout: float
