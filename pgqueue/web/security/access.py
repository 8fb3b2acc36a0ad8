"""Who may do what."""

from __future__ import annotations

import hashlib
import inspect
import logging
import secrets
import time
from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import Request

from pgqueue.app import PgQueue
from pgqueue.model.jobs import Job
from pgqueue.web.security import origins, sessions
from pgqueue.web.security.origins import Origin
from pgqueue.web.settings import Action, Authorize, WebSettings

OWNER = "owner"
"""The header that names the owner of a job, where the settings say that a header does."""
MAX_ACTOR = 200
"""Characters of an actor's name, as the history stores it."""

_HAS_ENDED = "pgqueue.session_has_ended"

Ask = tuple[Action, str]
"""An action, and the resource that it is to be done to: see Authorize."""

logger = logging.getLogger("pgqueue.web")


class Access:
    """Decides about requests, by the settings of the app. Closed by default.

    A request with the token may do everything. Others are decided by the host service's hook, if there is
    one. Without a hook they may do nothing, unless reading is open, to all or to this machine.
    """

    def __init__(self, settings: WebSettings, pgq: PgQueue | None = None) -> None:
        """*pgq*: knows which sessions have ended. None: an app without a login."""
        self._settings = settings
        self._pgq = pgq

    async def check(self, request: Request, action: Action, resource: str) -> None:
        """Let *request* do *action* to *resource* (see Authorize), or raise HTTPException 401 or 403."""
        await self._check(request, action, resource, spans_owners=_spans_owners(action, resource))

    async def check_collection(self, request: Request, action: Action, collection: str) -> None:
        """Let *request* do *action* to all of *collection*, which spans all owners, or raise as `check`.

        If jobs have owners, the token or the hook of its own must allow it; nothing else does.
        """
        await self._check(request, action, collection, spans_owners=True)

    async def _check(self, request: Request, action: Action, resource: str, *, spans_owners: bool) -> None:
        if self._settings.read_only and _changes(request, action):
            raise HTTPException(403, "this app is read-only: use another one to change something")
        if self._presents_token(request):
            return
        if await self.has_session(request):
            if _changes(request, action):
                check_own_page(request)
            return
        is_shared = spans_owners and self.has_owners
        is_open = self._is_open(request, action)
        if is_open and not is_shared:
            return
        hook = self._settings.authorize_shared if is_shared else self._settings.authorize
        if hook is not None:
            await _ask(hook, request, action, resource)
        elif is_shared and (is_open or self._settings.authorize is not None):
            raise HTTPException(403, _not_only_yours(resource))
        elif self._settings.token is not None:
            raise HTTPException(
                401,
                "authentication required: send the token as `Authorization: Bearer TOKEN`",
                {"WWW-Authenticate": 'Bearer realm="pgqueue"'},
            )
        else:
            raise self._refusal(request, action)

    @property
    def has_owners(self) -> bool:
        """Whether jobs have owners."""
        return self._settings.has_owners

    def owner_of(self, request: Request) -> str | None:
        """Return the header `owner` of the jobs of *request*; None: another rule says whose a job is."""
        return self._named_by(request) if self._settings.owner_header else None

    async def owns(self, request: Request, job: Job) -> bool:
        """Whether the requester may see *job*."""
        if not self.has_owners:
            return True
        try:
            if self._settings.owns is None:
                owner = self.owner_of(request)
                return bool(owner) and job.headers.get(OWNER) == owner
            answer = self._settings.owns(request, job)
            return bool(await answer if inspect.isawaitable(answer) else answer)
        except Exception:
            # An error would tell this job from one that does not exist.
            logger.exception("the hook that says whose jobs are raised an error; hiding job %s", job.id)
            return False

    def key_scope(self, request: Request) -> str:
        """Return the scope of the idempotency keys that *request* sends."""
        actor = self._named_by(request)
        # A name may be any text of any length, and two that differ must not meet in one key.
        if len(actor) > MAX_ACTOR or not actor.isprintable() or actor.startswith("sha256:"):
            actor = f"sha256:{_digest(actor)}"
        return f"tenant:http:{actor}"

    def task_key_scope(self, request: Request, scope: str) -> str:
        """Return the part of *scope*, that of a key which a task declares, of whoever sends *request*."""
        return f"tenant:http-task:{_digest(self._named_by(request) + chr(0) + scope)}"

    def _named_by(self, request: Request) -> str:
        return "" if self._settings.actor is None else self._settings.actor(request)

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

    async def has_session(self, request: Request) -> bool:
        """Whether *request* carries the cookie of a browser that has logged in, and not out."""
        cookie = self.cookie_of(request)
        if cookie is None:
            return False
        has_ended = await self.has_ended(sessions.session_of(cookie))
        if has_ended:
            # For the rest of the request, such as the page that says so.
            request.scope[_HAS_ENDED] = True
        return not has_ended

    async def has_ended(self, session: str) -> bool:
        """Whether *session* was ended, in whatever process."""
        return self._pgq is not None and await self._pgq.is_web_session_ended(session)

    def is_logged_in(self, request: Request) -> bool:
        """Whether a page is to offer the requester to log out. Permits nothing."""
        return _HAS_ENDED not in request.scope and self.cookie_of(request) is not None

    def may_change(self, request: Request) -> bool:
        """Whether a page is to offer the requester anything that changes something. Permits nothing.

        Not to one who may read because everybody may, where no hook could let them do more.
        """
        if self._settings.read_only:
            return False
        hooks = (self._settings.authorize, self._settings.authorize_shared)
        return any(hooks) or self.is_logged_in(request) or self._presents_token(request)

    async def offers(self, request: Request, asks: Iterable[Ask]) -> frozenset[Ask]:
        """Return those of *asks* that a page is to offer the requester: none that would be refused.

        Permits nothing: whatever is sent is checked. The hook is asked, as it will be for the form itself.
        """
        if not self.may_change(request):
            return frozenset()
        if self._presents_token(request) or await self.has_session(request):
            return frozenset(asks)
        return frozenset([ask for ask in dict.fromkeys(asks) if await self._would_allow(request, *ask)])

    async def _would_allow(self, request: Request, action: Action, resource: str) -> bool:
        is_shared = self.has_owners and _spans_owners(action, resource)
        hook = self._settings.authorize_shared if is_shared else self._settings.authorize
        try:
            return hook is not None and await _allows(hook, request, action, resource)
        except HTTPException:
            return False

    async def end_session(self, request: Request) -> None:
        """End the session of *request*, if it has one, in every process."""
        cookie = self.cookie_of(request)
        if cookie is not None and self._pgq is not None:
            until = sessions.valid_until(cookie)
            await self._pgq.end_web_session(sessions.session_of(cookie), valid_until=until)

    def session_of(self, request: Request) -> str | None:
        """Return the session by which *request* is allowed; None: it is allowed otherwise."""
        cookie = self.cookie_of(request)
        return None if cookie is None or self._presents_token(request) else sessions.session_of(cookie)

    def cookie_of(self, request: Request) -> str | None:
        """Return the cookie of *request* if it is one of this app's and has not expired."""
        token = self._settings.token
        if token is None:
            return None
        cookie = request.cookies.get(sessions.cookie_name(token))
        return cookie if cookie is not None and sessions.is_valid(token, cookie, now=time.time()) else None

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


def _spans_owners(action: Action, resource: str) -> bool:
    """Whether *resource* belongs to all owners together, so that a single one must not do *action*.

    Everything does that is not known to be one owner's: a route that is added is closed.
    """
    kind = resource.partition(":")[0]
    if kind in ("job", "priority", "openapi"):
        return False
    if action == "enqueue":
        return kind not in ("jobs", "task", "queue")
    return (action, resource) not in (("read", "jobs"), ("read", "dead_letters"))


def _not_only_yours(resource: str) -> str:
    kind, _, name = resource.partition(":")
    if kind == "job_ids":
        return "ids of jobs belong to all owners, so they cannot be chosen; send an Idempotency-Key instead"
    if name:
        return f"{kind} {name!r} belongs to all owners, not only to you; use the token"
    return f"this covers all {resource}, not only yours; use the token, or request single jobs"


def _digest(actor: str) -> str:
    return hashlib.sha256(actor.encode("utf-8", "surrogatepass")).hexdigest()


def _changes(request: Request, action: Action) -> bool:
    return action != "read" or request.method not in ("GET", "HEAD", "OPTIONS")


async def _ask(authorize: Authorize, request: Request, action: Action, resource: str) -> None:
    """Ask the host service's hook. A hook that fails has not allowed anything."""
    # The hook may use a cookie, which browsers add to whatever any page makes them send.
    if _changes(request, action) and origins.is_foreign_form(request):
        raise HTTPException(403, f"not allowed to {action} {resource} from a page of another site")
    if not await _allows(authorize, request, action, resource):
        raise HTTPException(403, f"not allowed to {action} {resource}")


async def _allows(authorize: Authorize, request: Request, action: Action, resource: str) -> bool:
    """Return the hook's answer. Raises the HTTPException that it raises."""
    try:
        answer = authorize(request, action, resource)
        allowed = await answer if inspect.isawaitable(answer) else answer
    except HTTPException:
        raise
    except (Exception, SystemExit):
        logger.exception("the authorize hook raised an error; refusing %s of %s", action, resource)
        return False
    # By identity: a coroutine or an object returned by mistake is not a permission.
    return allowed is True
