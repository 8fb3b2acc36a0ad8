"""Reading the query of a request, and linking to the next page."""

from __future__ import annotations

from typing import Any, TypeVar, get_args, get_origin
from urllib.parse import urlencode

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from pgqueue.web.http.bodies import invalid

ModelT = TypeVar("ModelT", bound=BaseModel)


def read_query(request: Request, model: type[ModelT]) -> ModelT:
    """Return the query of *request* as *model*. Raises HTTPException 422 that names what is invalid.

    A field that is a list takes its parameter once or several times.
    """
    known = model.model_fields
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        allowed = ", ".join(known) or "none"
        raise HTTPException(422, f"unknown parameter {unknown[0]!r}; allowed: {allowed}")
    given: dict[str, Any] = {}
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if _is_list(known[name].annotation):
            given[name] = [part for value in values for part in value.split(",")]
        elif len(values) > 1:
            raise HTTPException(422, f"parameter {name!r} must be given once, got it {len(values)} times")
        else:
            given[name] = values[0]
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise invalid("the query", error) from None


def next_page(request: Request, cursor: str | None) -> tuple[str | None, dict[str, str]]:
    """Return the link to the page at *cursor*, and the header that says the same."""
    if cursor is None:
        return None, {}
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    # Without scheme and host: it is right behind any proxy.
    link = f"{request.url.path}?{urlencode([*kept, ('cursor', cursor)])}"
    return link, {"Link": f'<{link}>; rel="next"'}


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(_is_list(each) for each in get_args(annotation))
