"""The queries and bodies of requests about limits. See `inputs`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pgqueue.errors import InvalidOptionError
from pgqueue.flow.limits import MAX_KEY
from pgqueue.model.checks import MAX_INTEGER
from pgqueue.model.limits import MAX_LIMIT_NAME
from pgqueue.model.rates import MAX_BURST, Rate
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


class LimiterQuery(Input):
    """How many limiters."""

    limit: Annotated[int, Field(ge=1, le=1000, description="How many limiters at most.")] = 100


class RateBody(Input):
    """A rate: `count` jobs of each key in `per` seconds, evenly spread."""

    count: Annotated[float, Field(gt=0, le=1e6)]
    per: Annotated[float, Field(ge=1, le=86_400)] = 1.0
    burst: Annotated[int, Field(ge=1, le=MAX_BURST), WHOLE] | None = Field(
        default=None, description="How many may start at once after a rest; null: a tenth of a second's."
    )


class LimitBody(Because):
    """What a limit lets through from now on: one of `slots` and `rate`; or `weight`, with its `key`."""

    slots: Annotated[int, Field(ge=1, le=MAX_INTEGER), WHOLE] | None = Field(
        default=None, description="How many jobs of each key run at once; null: any number."
    )
    rate: RateBody | None = Field(default=None, description="How many start; null: any number.")

    weight: Annotated[float, Field(ge=0.01, le=1000)] | None = Field(
        default=None,
        description="Of a fair queue's limit: how many windows `key` has; null: one. It takes no reason.",
    )
    key: Key | None = None

    def gives_weight(self) -> bool:
        """Whether it is a weight that was sent. Raises InvalidOptionError if it is not whole."""
        given = self.model_fields_set
        if ("weight" in given) != (self.key is not None):
            raise InvalidOptionError("send key and weight together")
        if "weight" in given and given - {"weight", "key"}:
            raise InvalidOptionError("a weight takes no slots, no rate and no reason")
        return "weight" in given

    def changes(self) -> dict[str, Any]:
        """Return what was sent, as `set_limit` takes it."""
        given: dict[str, Any] = {}
        if "slots" in self.model_fields_set:
            given["slots"] = self.slots
        if "rate" in self.model_fields_set:
            given["rate"] = self.rate and Rate(self.rate.count, per=self.rate.per, burst=self.rate.burst)
        return given
