"""Who may do what."""

from __future__ import annotations

import inspect
import logging
import secrets
import time

from starlette.exceptions import HTTPException
from starlette.requests import Request

from pgqueue.model.jobs import Job
from pgqueue.web.security import origins, sessions
from pgqueue.web.security.origins import Origin
from pgqueue.web.settings import Action, Authorize, WebSettings

MAX_ACTOR = 200
"""Characters of an actor's name, as the history stores it."""

logger = logging.getLogger("pgqueue.web")


class Access:
    """Decides about requests, by the settings of the app. Closed by default.

    A request with the token may do everything. Others are decided by the host service's hook, if there is
    one. Without a hook they may do nothing, unless reading is open, to all or to this machine.
    """

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings

    async def check(self, request: Request, action: Action, resource: str) -> None:
        """Let *request* do *action* to *resource* (see Authorize), or raise HTTPException 401 or 403."""
        if self._presents_token(request):
            return
        if self.has_session(request):
            if _changes(request, action):
                check_own_page(request)
        elif self._is_open(request, action):
            return
        elif self._settings.authorize is not None:
            await _ask(self._settings.authorize, request, action, resource)
        elif self._settings.token is not None:
            raise HTTPException(
                401,
                "authentication required: send the token as `Authorization: Bearer TOKEN`",
                {"WWW-Authenticate": 'Bearer realm="pgqueue"'},
            )
        else:
            raise self._refusal(request, action)

    async def check_collection(self, request: Request, action: Action, collection: str) -> None:
        """Let *request* do *action* to all of *collection*, which spans all owners, or raise as `check`.

        If jobs have owners, the token or the authorize hook must allow it; open reading does not.
        """
        if self._settings.owns is not None and not (
            self._presents_token(request) or self.has_session(request)
        ):
            if self._settings.authorize is not None:
                return await _ask(self._settings.authorize, request, action, collection)
            await self.check(request, action, collection)
            raise HTTPException(
                403, f"this covers all {collection}, not only yours; use the token, or request single jobs"
            )
        return await self.check(request, action, collection)

    @property
    def has_owners(self) -> bool:
        """Whether jobs have owners."""
        return self._settings.owns is not None

    async def owns(self, request: Request, job: Job) -> bool:
        """Whether the requester may see *job*."""
        if self._settings.owns is None:
            return True
        try:
            answer = self._settings.owns(request, job)
            return bool(await answer if inspect.isawaitable(answer) else answer)
        except Exception:
            # An error would tell this job from one that does not exist.
            logger.exception("the owns hook raised an error; hiding job %s", job.id)
            return False

    def actor_of(self, request: Request, *, default: str = "http") -> str:
        """Return the actor to record in the history; *default*: without an actor hook."""
        if self._settings.actor is None:
            return default
        # A name may be any text; PostgreSQL must be able to store it.
        named = self._settings.actor(request).encode("utf-8", "replace").decode().replace("\0", "")
        return named[:MAX_ACTOR] or default

    def reader_of(self, request: Request) -> str:
        """Return who shares the places of long polls and streams with others: the actor, or an address."""
        if self._settings.actor is not None:
            return self.actor_of(request)
        return origins.network_of(request)

    def has_session(self, request: Request) -> bool:
        """Whether *request* carries the cookie of a browser that has logged in."""
        token = self._settings.token
        if token is None:
            return False
        cookie = request.cookies.get(sessions.cookie_name(token))
        return cookie is not None and sessions.is_valid(token, cookie, now=time.time())

    def is_token(self, given: str) -> bool:
        """Whether *given* is the app's token, in a time that does not tell how much of it is right."""
        token = self._settings.token
        return token is not None and secrets.compare_digest(
            given.encode("utf-8", "surrogatepass"), token.encode("utf-8", "surrogatepass")
        )

    def _presents_token(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.is_token(given.strip())

    def _is_open(self, request: Request, action: Action) -> bool:
        """Whether *request* may do *action* whoever it is from."""
        if _changes(request, action):
            return False
        return self._settings.open_reading or (
            self._settings.local_reading
            and origins.is_local(request)
            and origins.is_safe_name(request, self._settings.allowed_hosts)
        )

    def _refusal(self, request: Request, action: Action) -> HTTPException:
        """Return why an app with neither a token nor a hook refuses *action*."""
        if _changes(request, action) and (self._settings.open_reading or self._settings.local_reading):
            detail = (
                "this app is read-only: configure a token or an authorize hook, as in "
                "status_app(pgq, token=...)"
            )
        elif not self._settings.local_reading:
            detail = (
                "this app is closed: configure a token or an authorize hook, as in "
                "status_app(pgq, token=...); local_reading=True lets this machine read"
            )
        elif not origins.is_local(request):
            detail = (
                "without a token or an authorize hook, this app only answers programs on its own machine; "
                "configure one, or let everyone read with status_app(pgq, open_reading=True)"
            )
        else:
            detail = (
                "untrusted Host header: use localhost, or allow the name with "
                "status_app(pgq, allowed_hosts=[...])"
            )
        return HTTPException(403, detail)


def check_own_page(request: Request) -> None:
    """Raise HTTPException 403 unless a page of this app made the browser send *request*."""
    if origins.origin_of(request) is not Origin.SAME:
        raise HTTPException(
            403, "this request did not come from a page of this app; open the page and try again"
        )


def _changes(request: Request, action: Action) -> bool:
    return action != "read" or request.method not in ("GET", "HEAD", "OPTIONS")


async def _ask(authorize: Authorize, request: Request, action: Action, resource: str) -> None:
    """Ask the host service's hook. A hook that fails has not allowed anything."""
    # The hook may use a cookie, which browsers add to whatever any page makes them send.
    if _changes(request, action) and origins.is_foreign_form(request):
        raise HTTPException(403, f"not allowed to {action} {resource} from a page of another site")
    try:
        answer = authorize(request, action, resource)
        allowed = await answer if inspect.isawaitable(answer) else answer
    except HTTPException:
        raise
    except Exception:
        logger.exception("the authorize hook raised an error; refusing %s of %s", action, resource)
        allowed = False
    # By identity: a coroutine or an object returned by mistake is not a permission.
    if allowed is not True:
        raise HTTPException(403, f"not allowed to {action} {resource}")
