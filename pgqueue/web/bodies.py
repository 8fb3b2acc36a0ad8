"""Reading the body of a request: bounded in size and time, JSON, and what its model says."""

from __future__ import annotations

from typing import TypeVar

import anyio
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from pgqueue.web.problems import ProblemError
from pgqueue.web.settings import WebSettings

ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_bounded(request: Request, settings: WebSettings) -> bytes:
    """Return the body of *request*. Raises HTTPException: 413 if it is too large, 408 if too slow."""
    too_large = HTTPException(413, f"the body is larger than the limit of {settings.body_limit:,} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > settings.body_limit:
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

    Raises HTTPException: 413, 408, 415 for another content type, 422 for what the model does not take.
    """
    content_type = request.headers.get("content-type")
    body = await read_bounded(request, settings)
    if not body and content_type is None:
        body = b"{}"
    elif content_type is None or content_type.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(
            415, f"the body is {content_type or 'of no content type'}: send it as application/json"
        )
    return decode_json(body or b"{}", model)


def decode_json(body: bytes, model: type[ModelT]) -> ModelT:
    """Return *body*, a JSON object, as *model*. Raises HTTPException 422."""
    try:
        # Also what the model does not look into is JSON: no NaN, no half of a surrogate pair.
        from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ProblemError(422, f"the body is not JSON: {error}") from None
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise invalid("the body", error) from None


def invalid(what: str, error: ValidationError) -> ProblemError:
    """Return the problem that names the fields of *what* that do not fit, all of them."""
    errors = [
        {"field": ".".join(map(str, each["loc"])), "message": each["msg"]}
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = errors[0]
    where = f": {first['field']}" if first["field"] else ""
    return ProblemError(422, f"{what} does not fit{where}: {first['message']}", errors=errors)
