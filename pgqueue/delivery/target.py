"""A task whose handler is an HTTP endpoint: each attempt is one request.

Redirects are not followed, because a target could send a worker where its task does not allow. Of an answer
no more is read than is kept. A request that is cancelled, or takes too long, closes its connection.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import CoreSchema, core_schema, to_json

from pgqueue.delivery import answers, headers
from pgqueue.delivery.addresses import (
    Origin,
    check_allowed,
    is_address,
    origin_of,
    read_allowed,
    shown_url,
)
from pgqueue.delivery.clients import Clients, MakeClient, library, make_client, make_public_client
from pgqueue.delivery.guarding import PrivateAddressError, PublicOnly
from pgqueue.delivery.signing import Secrets, read_secrets
from pgqueue.errors import HttpTimeoutError, HttpUnreachableError, InvalidTaskError
from pgqueue.model.checks import Duration, integer, one_of, positive_seconds, shown
from pgqueue.tasks.arguments import Arguments
from pgqueue.tasks.context import JobContext

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger("pgqueue.worker")

METHODS: Final = ("POST", "PUT", "PATCH", "DELETE", "GET", "HEAD")
TIMEOUT: Final = 30.0
MAX_ANSWER: Final = 64 * 1024
MOST_ANSWER: Final = 16 * 1024 * 1024
MARGIN: Final = 60.0
"""Seconds that an attempt has besides its request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a task needs to know of its endpoint. Times are in seconds, sizes in bytes."""

    name: str
    clients: Clients = field(repr=False)
    url: str | None
    allowed: tuple[Origin, ...]
    method: str
    timeout: float
    own_headers: headers.Headers | headers.HeadersHook | None = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    is_typed: bool
    """Whether the task says which JSON it answers."""
    max_answer: int
    make_client: MakeClient
    may_be_private: bool
    """Whether names in the URLs of jobs may lead to addresses that are not of the internet."""

    async def send(self, ctx: JobContext[Any], body: Any, url: str | None) -> Any:
        """Make one request, and return the result of the job. Raises RateLimited, HttpTargetError."""
        to = url or self.url
        assert to is not None, "a URL that is not given is refused before"
        # Once more: the list may be another one than when the job was enqueued.
        check_allowed(to, self.allowed) if url else None
        content = None if body is None else to_json(body)
        try:
            async with asyncio.timeout(self.timeout) as limit, self.clients.use(self.make_client) as client:
                is_guarded = bool(url) and not self.may_be_private
                answer = await self._exchange(client, ctx, to, content, is_guarded=is_guarded)
                forget = getattr(self.own_headers, "forget", None)
                if isinstance(answer, BaseException) and getattr(answer, "status", 0) == 401 and forget:
                    # Its token may have been withdrawn.
                    forget()
                    answer = await self._exchange(client, ctx, to, content, is_guarded=is_guarded)
        except TimeoutError:
            if not limit.expired():
                raise
            detail = f"no whole answer within {self.timeout:g} s"
            raise HttpTimeoutError(shown_url(to), detail) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def _exchange(
        self,
        client: httpx.AsyncClient,
        ctx: JobContext[Any],
        url: str,
        content: bytes | None,
        *,
        is_guarded: bool,
    ) -> Any:
        """Send one request; return the result of the job, or what its attempt is to raise."""
        where = f"HTTP task {self.name!r}: headers"
        own = await headers.read(where, self.own_headers)
        sent = headers.assemble(ctx, own, self.keys, ctx.idempotency_key, content)
        httpx = library()
        try:
            request = client.build_request(self.method, url, headers=sent, content=content)
            host = request.url.raw_host.decode("ascii")
            if is_guarded and not is_address(host):
                request.extensions["trace"] = PublicOnly(host)
            response = await client.send(request, stream=True, auth=None, follow_redirects=False)
            try:
                patient = answers.is_patient(ctx.created_at)
                return await self._judge(response, url, is_patient=patient)
            finally:
                await response.aclose()
        except PrivateAddressError as error:
            detail = f"its name leads to {error.address}, which is no public address: pass allow_private=True"
            raise HttpUnreachableError(shown_url(url), detail) from None
        except httpx.TimeoutException as error:
            # Of a client of the task's own.
            raise HttpTimeoutError(shown_url(url), f"no answer in time: {type(error).__name__}") from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            detail = f"no answer: {type(error).__name__}: {error}" if str(error) else f"no answer: {error!r}"
            raise HttpUnreachableError(shown_url(url), detail) from None

    async def _judge(self, response: httpx.Response, url: str, *, is_patient: bool) -> Any:
        status, found = response.status_code, response.headers
        most = answers.keeps(status, found.get("Content-Type"), self.max_answer)
        body, is_whole = await _read(response, most)
        if not answers.is_accepted(status):
            asks = found.get("Retry-After"), found.get("Location")
            return answers.refusal(shown_url(url), status, *asks, body, is_patient=is_patient)
        if "Content-Encoding" in found or not is_whole:
            if most and not self.is_typed:
                logger.warning(
                    "HTTP task %r: %s answered more than %d bytes, or compressed; the result is its status",
                    self.name,
                    shown_url(url),
                    most,
                )
            return answers.result(shown_url(url), status, None, self.max_answer, is_typed=self.is_typed)
        return answers.result(shown_url(url), status, body, self.max_answer, is_typed=self.is_typed)


async def _read(response: httpx.Response, most: int) -> tuple[bytes, bool]:
    """Return up to *most* bytes of an answer, and whether that is all of it. No more is read."""
    body = bytearray()
    if not most:
        return b"", False
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > most:
            return bytes(body[:most]), False
    return bytes(body), True


def read_target(
    name: str,
    clients: Clients,
    *,
    url: str | None,
    allow: object,
    method: str,
    timeout: Duration,
    given_headers: headers.Headers | headers.HeadersHook | None,
    secret: Secrets | None,
    is_typed: bool,
    max_answer: int,
    client: MakeClient | None,
    may_be_private: bool,
) -> Target:
    """Return the target that the arguments of `PgQueue.http_task` describe. Raises ConfigurationError."""
    where = f"HTTP task {shown(name)}"
    allowed = read_allowed(where, allow)
    if url is not None:
        try:
            origin_of(url)
        except ValueError as error:
            raise InvalidTaskError(f"{where}: {error}") from None
    elif not allowed:
        raise InvalidTaskError(f"{where} needs a url=, or allow= with the origins of the URLs of its jobs")
    if client is not None and not callable(client):
        raise InvalidTaskError(
            f"{where}: client must be a function that returns a client, got {shown(client)}"
        )
    if not callable(given_headers) and given_headers is not None:
        headers.check_headers(f"{where}: headers", given_headers)
    make = client or (make_public_client if allowed and not may_be_private else make_client)
    clients.add(make)
    return Target(
        name=name,
        clients=clients,
        url=url,
        allowed=allowed,
        method=one_of(f"{where}: method", method, METHODS),
        timeout=positive_seconds(f"{where}: timeout", timeout),
        own_headers=given_headers,
        keys=() if secret is None else read_secrets(where, secret),
        is_typed=is_typed,
        max_answer=integer(f"{where}: max_answer", max_answer, least=0, most=MOST_ANSWER),
        make_client=make,
        may_be_private=may_be_private,
    )


def handler_of(target: Target, body: Any, answer: Any) -> Callable[..., Any]:
    """Return the handler of a task: it takes a *body*, and a `url` if the task takes URLs of jobs."""

    async def send(ctx: JobContext[Any], body: Any = None, url: str | None = None) -> Any:
        return await target.send(ctx, body, url)

    empty, kind = inspect.Parameter.empty, inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("ctx", kind, annotation=JobContext)]
    parameters.append(
        inspect.Parameter("body", kind, annotation=body, default=None if body is Any else empty)
    )
    if target.allowed:
        of_job = type("TargetUrl", (_TargetUrl,), {"allowed": target.allowed})
        annotation = of_job if target.url is None else of_job | None
        default = empty if target.url is None else None
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter("url", keyword, annotation=annotation, default=default))
    result = answers.HttpAnswer if answer is None else answer
    send.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": result}
    vars(send)["__signature__"] = inspect.Signature(parameters, return_annotation=result)
    send.__name__ = send.__qualname__ = target.name
    if body is not Any and Arguments(target.name, send, context_type=JobContext).secrets:
        raise InvalidTaskError(
            f"HTTP task {target.name!r}: the body has a secret, which would be sent as asterisks: annotate "
            "it as str, and name it in redact="
        )
    return send


class _TargetUrl(str):
    """A URL of an origin that a task allows."""

    __slots__ = ()
    allowed: tuple[Origin, ...]

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, __: Any) -> CoreSchema:
        """Have pydantic refuse any other."""

        def check(url: str) -> str:
            return check_allowed(url, cls.allowed)

        return core_schema.no_info_after_validator_function(check, core_schema.str_schema())
