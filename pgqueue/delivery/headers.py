"""The headers of a request: of the job, of its trace, of its signature, and those that a hook gives."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import anyio
import anyio.to_thread

from pgqueue.delivery.signing import sign
from pgqueue.errors import InvalidOptionError
from pgqueue.model.checks import shown
from pgqueue.model.job_info import JobInfo
from pgqueue.tasks.wrapping import is_awaitable, is_coroutine_function

Headers = Mapping[str, str]
HeadersHook = Callable[[], Headers | Awaitable[Headers]]
"""Returns headers for one request. It is called for each, so that a token can be a fresh one."""

TRACE: Final = ("traceparent", "tracestate")
"""What goes on of a job's own headers. Baggage does not: it may say what is nobody else's business."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})


class BearerToken:
    """A hook for `headers=` that fetches a bearer token when it needs one, and keeps it until it runs out.

        headers=BearerToken(fetch)

    *fetch*: an async or a plain function that returns a token and for how many seconds it is valid. It is
    asked again a minute before that, and when a target has answered 401.
    """

    EARLY: Final = 60.0
    """Seconds before its end from which a token is not used any more."""

    def __init__(self, fetch: Callable[[], tuple[str, float] | Awaitable[tuple[str, float]]]) -> None:
        if not callable(fetch):
            raise InvalidOptionError(f"BearerToken: fetch must be a function, got {shown(fetch)}")
        self._fetch = fetch
        self._token: str | None = None
        self._until = float("-inf")
        self._fetching = anyio.Lock()

    async def __call__(self) -> dict[str, str]:
        """Return the header Authorization. Raises what `fetch` raises."""
        # One asks, and the others wait for what it gets.
        async with self._fetching:
            if self._token is None or time.monotonic() >= self._until:
                fetched = await call(self._fetch)
                if not (isinstance(fetched, tuple) and len(fetched) == 2 and isinstance(fetched[0], str)):
                    # What it is stays unsaid: it may hold the token.
                    raise InvalidOptionError(
                        "BearerToken: fetch must return a token and its seconds, as a tuple of two; it "
                        f"returned a {type(fetched).__name__}"
                    )
                self._token, seconds = fetched
                self._until = time.monotonic() + max(0.0, float(seconds) - self.EARLY)
            return {"Authorization": f"Bearer {self._token}"}

    def forget(self) -> None:
        """Fetch a new token the next time."""
        self._token = None


async def call(hook: Callable[[], Any]) -> Any:
    """Call *hook*, which may be async; a plain function runs in a thread, because it may block."""
    if is_coroutine_function(hook):
        return await hook()
    value = await anyio.to_thread.run_sync(hook, abandon_on_cancel=True)
    return await value if is_awaitable(value) else value


def check_headers(where: str, given: object) -> dict[str, str]:
    """Return *given* if these are headers. Raises InvalidOptionError, which does not show their values."""
    if not isinstance(given, Mapping):
        raise InvalidOptionError(f"{where} must be a mapping of names to strings, got {shown(given)}")
    for name, value in given.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InvalidOptionError(f"{where}: {shown(name)} is no name of a header")
        if name.lower() in _OURS:
            raise InvalidOptionError(f"{where}: the header {name} is made from the request; leave it out")
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise InvalidOptionError(f"{where}: the value of {name} must be a string without line breaks")
    return dict(given)


async def read(where: str, source: Headers | HeadersHook | None) -> dict[str, str]:
    """Return the headers that a task adds to a request. Raises what its hook raises, InvalidOptionError."""
    if source is None:
        return {}
    return check_headers(where, await call(source) if callable(source) else source)


def of_job(job: JobInfo) -> dict[str, str]:
    """Return the headers that say which job a request is of."""
    return {
        "Idempotency-Key": job.idempotency_key,
        "Pgqueue-Job-Id": str(job.job_id),
        "Pgqueue-Attempt": str(job.attempt),
        "Pgqueue-Task": _ascii(job.task),
        "Pgqueue-Queue": _ascii(job.queue),
        **_trace(job),
    }


def _ascii(text: str) -> str:
    """Return *text* as a header can have it."""
    return text.encode("ascii", "backslashreplace").decode().replace("\n", " ").replace("\r", " ")


def _trace(job: JobInfo) -> dict[str, str]:
    """Return the W3C trace context: of the attempt's span, where it has one, or of the enqueue."""
    carrier: dict[str, str] = {}
    # Only where the program uses OpenTelemetry: then this is loaded.
    propagate = sys.modules.get("opentelemetry.propagate")
    if propagate is not None:
        # The application's propagators may raise anything: a request is worth more than its trace.
        with suppress(Exception):
            propagate.inject(carrier)
    known = carrier if "traceparent" in carrier else job.headers
    return {name: known[name] for name in TRACE if _VALUE.fullmatch(known.get(name, "\n"))}


def assemble(
    job: JobInfo, own: Headers, keys: Sequence[bytes], message_id: str, content: bytes | None
) -> dict[str, str]:
    """Return the headers of one request. *own*: those of the task, over all but the signature."""
    headers = {"Accept": "application/json", "User-Agent": "pgqueue", **of_job(job)}
    if content is not None:
        headers["Content-Type"] = "application/json"
    lower = {name.lower() for name in own}
    headers = {name: value for name, value in headers.items() if name.lower() not in lower} | dict(own)
    # Not compressed: an answer is as large as what is read of it.
    signed = {"Accept-Encoding": "identity"}
    if keys:
        signed |= sign(keys, message_id, int(time.time()), content or b"")
    reserved = {name.lower() for name in signed}
    return {name: value for name, value in headers.items() if name.lower() not in reserved} | signed
