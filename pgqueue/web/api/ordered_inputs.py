"""The queries and bodies of requests about ordered groups. See `inputs`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pgqueue.flow.limits import MAX_KEY
from pgqueue.flow.ordering import MAX_NAME
from pgqueue.web.api.inputs import NO_NUL, Because, Input

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=NO_NUL)]


class StoppedQuery(Input):
    """Which keys that stand still."""

    name: Name | None = Field(default=None, description="Those of this group.")
    limit: Annotated[int, Field(ge=1, le=1000, description="How many at most.")] = 100


class ResumeBody(Because):
    """A key that is to go on."""

    name: Name = Field(description="The group.")
    key: Annotated[str, Field(max_length=MAX_KEY, pattern=NO_NUL)] = Field(
        default="", description="The key, as it is listed; empty for a group without keys."
    )


class OnDeadBody(Input):
    """What becomes of the jobs behind one that fails or expires."""

    name: Name = Field(description="The group.")
    on_dead: Literal["block", "skip", "halt"]
