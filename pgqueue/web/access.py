"""Who may do what."""

from __future__ import annotations

import inspect
import secrets

from starlette.exceptions import HTTPException
from starlette.requests import Request

from pgqueue.jobs import Job
from pgqueue.web.settings import Action, WebSettings


class Access:
    """Decides about requests, by the settings of the app. Closed by default: nothing may be changed."""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings

    async def check(self, request: Request, action: Action, resource: str) -> None:
        """Let *request* do *action* to *resource* (see Authorize), or raise HTTPException 401 or 403."""
        if self._has_token(request):
            return
        if self._settings.authorize is not None:
            answer = self._settings.authorize(request, action, resource)
            if not (await answer if inspect.isawaitable(answer) else answer):
                raise HTTPException(403, f"you may not {action} {resource} here")
            return
        if self._settings.token is not None:
            raise HTTPException(401, "this needs a token", {"WWW-Authenticate": "Bearer"})
        if action != "read":
            raise HTTPException(
                403, "this app changes nothing: its service gave it neither a token nor an authorize hook"
            )

    async def owns(self, request: Request, job: Job) -> bool:
        """Whether *job* exists for the requester."""
        if self._settings.owns is None:
            return True
        answer = self._settings.owns(request, job)
        return bool(await answer if inspect.isawaitable(answer) else answer)

    def actor_of(self, request: Request) -> str:
        """Who *request* is from, for a job's history."""
        return "http" if self._settings.actor is None else self._settings.actor(request)

    def _has_token(self, request: Request) -> bool:
        token = self._settings.token
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return (
            token is not None
            and scheme.lower() == "bearer"
            and secrets.compare_digest(given.strip().encode(), token.encode())
        )
