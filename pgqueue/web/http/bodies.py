"""Reading the body of a request: JSON, bounded in size, time and depth, and valid for its model.

JSON that two parsers could understand differently is rejected.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final, TypeVar

import anyio
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from pgqueue.web.http.problems import ProblemError
from pgqueue.web.settings import WebSettings

ModelT = TypeVar("ModelT", bound=BaseModel)

MAX_DEPTH: Final = 64
"""Levels of nested arrays and objects."""
MAX_VALUES: Final = 50_000
"""Values of a JSON text, keys included. A MiB of `[]` would hold the event loop for more than a second."""
MAX_ERRORS: Final = 100
"""Invalid fields that are named one by one."""
_STRING: Final = re.compile(rb'"[^"]*"')


async def read_bounded(request: Request, settings: WebSettings) -> bytes:
    """Return the body of *request*. Raises HTTPException: 413 if it is too large, 408 if too slow."""
    too_large = HTTPException(
        413,
        f"the body is larger than the limit of {settings.body_limit:,} bytes",
        {"Connection": "close"},
    )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 20 or int(declared) > settings.body_limit):
        raise too_large
    body = bytearray()
    try:
        with anyio.fail_after(settings.body_timeout):
            async for chunk in request.stream():
                body += chunk
                if len(body) > settings.body_limit:
                    raise too_large
    except TimeoutError:
        raise HTTPException(
            408, f"the body did not arrive within {settings.body_timeout:g} s", {"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise HTTPException(400, "the body ended early") from None
    return bytes(body)


async def read_json(request: Request, settings: WebSettings, model: type[ModelT]) -> ModelT:
    """Return the body of *request*, a JSON object, as *model*. An empty body is an empty object.

    Raises HTTPException: 413, 408, 415 for another content type, 422 for what the model rejects.
    """
    content_type = request.headers.get("content-type")
    body = await read_bounded(request, settings)
    if not body and content_type is None:
        body = b"{}"
    elif not _is_json(content_type):
        what = f"is {content_type}" if content_type else "has no Content-Type"
        raise HTTPException(415, f"the body {what}; send it as application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HTTPException(415, "the body must not be compressed; send it without Content-Encoding")
    return decode_json(body or b"{}", model)


def _is_json(content_type: str | None) -> bool:
    media_type, _, parameters = (content_type or "").lower().partition(";")
    charset = parameters.replace('"', "").replace(" ", "")
    return media_type.strip() == "application/json" and charset in ("", "charset=utf-8")


def decode_json(body: bytes, model: type[ModelT]) -> ModelT:
    """Return *body*, a JSON object, as *model*. Raises HTTPException 422."""
    parse_json(body)
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise invalid("the body", error) from None


def invalid(what: str, error: ValidationError) -> ProblemError:
    """Return the problem that names all invalid fields of *what*."""
    if error.error_count() > MAX_ERRORS:
        # To list them takes longer than to find them.
        return ProblemError(422, f"{what} is invalid in {error.error_count():,} places", errors=[])
    errors = [
        {"field": ".".join(map(str, each["loc"])), "message": each["msg"]}
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = errors[0]
    where = f": {first['field']}" if first["field"] else ""
    return ProblemError(422, f"{what} is invalid{where}: {first['message']}", errors=errors)


def parse_json(body: bytes, what: str = "the body") -> Any:
    """Return the value of a JSON text, which messages call *what*.

    Raises ProblemError 422 if it is not JSON, or not safe: keys that are there twice, which parsers resolve
    differently; numbers that would become infinite; more than MAX_DEPTH levels or MAX_VALUES values; text
    that PostgreSQL cannot store.
    """
    try:
        check_count(body)
        document = _loads(body)
        _check(document)
    except _FlawError as flaw:
        raise ProblemError(422, f"{what} {flaw}") from None
    return document


class _FlawError(Exception):
    """A flaw of a JSON text; the message follows the text's name."""


def check_count(body: bytes) -> None:
    """Reject a text of too many values, before any of them is made."""
    if _count_marks(body) <= 2 * MAX_VALUES:
        return
    # What is in strings does not count. Escapes stand only there, and may be quotes.
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') > 2 * MAX_VALUES or _count_marks(_STRING.sub(b"", bare)) > 2 * MAX_VALUES:
        raise _FlawError(f"contains more than {MAX_VALUES:,} values")


def _count_marks(text: bytes) -> int:
    """Return a number that is at most twice that of the values: each follows one of these, or two."""
    return sum(map(text.count, (b",", b":", b"[", b"{")))


def _loads(body: bytes) -> Any:
    try:
        return json.loads(
            body.decode(),
            object_pairs_hook=_without_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError:
        raise _FlawError("is not JSON, because it is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _FlawError(f"is not JSON: {error.msg} ({where})") from None
    except ValueError:
        # Python's own limit on the digits of an integer.
        raise _FlawError("contains a number with too many digits") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        twice = max(Counter(name for name, _ in pairs).items(), key=itemgetter(1))[0]
        raise _FlawError(f"contains an object with the key {_shown(twice)} twice")
    return document


def _refuse_constant(name: str) -> Any:
    raise _FlawError(f"is not JSON: {name} is not a JSON number")


def _finite(spelled: str) -> float:
    number = float(spelled)
    if not math.isfinite(number):
        raise _FlawError(f"contains a number that is too large: {spelled[:40]}")
    return number


def _check(document: Any) -> None:
    """Reject values that are too deep or cannot be stored, level by level."""
    level: Iterable[Any] = [document]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
        if not below:
            return
        level = below
    raise _too_deep()


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _FlawError("contains a NUL character, which PostgreSQL cannot store")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _FlawError("contains half a surrogate pair, which is not a character") from None


def _too_deep() -> _FlawError:
    return _FlawError(f"is nested deeper than {MAX_DEPTH} levels")


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 40 else name[:40] + "...")
