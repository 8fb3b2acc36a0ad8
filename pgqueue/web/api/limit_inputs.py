"""The queries and bodies of requests about limits. See `inputs`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pgqueue.flow.limits import MAX_KEY
from pgqueue.model.checks import MAX_INTEGER
from pgqueue.model.limits import MAX_LIMIT_NAME
from pgqueue.web.api.inputs import NO_NUL, WHOLE, Because, Cursor, Input, Limit

Key = Annotated[str, Field(max_length=MAX_KEY, pattern=NO_NUL)]


class LimitListQuery(Input):
    """A page of limits."""

    limit: Annotated[int, Field(ge=1, le=1000, description="The size of a page.")] = 100
    cursor: Annotated[str, Field(min_length=1, max_length=MAX_LIMIT_NAME, pattern=NO_NUL)] | None = Field(
        default=None, description="The cursor of the previous page: the name of its last limit."
    )


class LimitQuery(Input):
    """A page of the keys of a limit."""

    key: Key | None = Field(default=None, description="This key alone, with its jobs.")
    limit: Limit = 25
    cursor: Cursor | None = None


class LimitBody(Because):
    """What a limit lets through from now on."""

    slots: Annotated[int, Field(ge=1, le=MAX_INTEGER), WHOLE] | None = Field(
        description="How many jobs of each key run at once; null: any number."
    )
