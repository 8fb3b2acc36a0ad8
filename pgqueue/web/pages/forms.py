"""Reading forms, within bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from pgqueue.web.http.bodies import read_bounded
from pgqueue.web.settings import WebSettings

MAX_FORM: Final = 16 * 1024
"""Bytes: the forms here are small."""
MAX_FIELDS: Final = 50
MAX_REASON: Final = 500


async def read_form(request: Request, settings: WebSettings, *, limit: int = MAX_FORM) -> dict[str, str]:
    """Return the fields of a form; of a name that comes twice, the last. Raises HTTPException.

    *limit*: in bytes; the limit for any body holds as well.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    bounded = replace(settings, body_limit=min(settings.body_limit, limit))
    body = await read_bounded(request, bounded)
    if not body:
        return {}
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "send the form as application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError as error:
        raise HTTPException(422, "the form is malformed") from error
    if any("\0" in text for pair in pairs for text in pair):
        raise HTTPException(422, "a field contains a NUL character, which PostgreSQL cannot store")
    return dict(pairs)


def reason_in(form: Mapping[str, str]) -> str | None:
    """Return the reason to record in the history; None: none was given. Raises HTTPException 422."""
    reason = form.get("why", "").strip()
    if len(reason) > MAX_REASON:
        raise HTTPException(
            422, f"the reason must be at most {MAX_REASON} characters long, got {len(reason):,}"
        )
    return reason or None


def decimal_in(form: Mapping[str, str], name: str) -> float:
    """Return the number in field *name*. Raises HTTPException 422."""
    given = form.get(name, "")[:40]
    try:
        return float(given)
    except ValueError:
        raise HTTPException(422, f"{name} must be a number, got {given!r}") from None


def number_in(form: Mapping[str, str], name: str) -> int:
    """Return the whole number in field *name*. Raises HTTPException 422."""
    given = form.get(name, "")
    try:
        number = int(given) if len(given) <= 20 else None
    except ValueError:
        number = None
    if number is None:
        raise HTTPException(422, f"{name} must be a whole number, got {given[:40]!r}")
    return number
