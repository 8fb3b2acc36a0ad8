"""When the task behind a group starts: how many of the group's members must have succeeded, or only ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from pgqueue.errors import InvalidWorkflowError
from pgqueue.model.checks import shown


@dataclass(frozen=True, slots=True)
class AtLeast:
    """As many members must succeed: `count` of them, or `percent` of however many there are."""

    count: int | None = None
    percent: float | None = None

    def of(self, total: int) -> int:
        """Return how many of *total* members that are. Raises InvalidWorkflowError if there are too few."""
        needs = self.count if self.percent is None else max(1, math.ceil(total * self.percent / 100))
        assert needs is not None
        if needs > total:
            raise InvalidWorkflowError(
                f"join=at_least({needs}): the group has only {total} members, so this can never be met"
            )
        return needs


Join = Literal["all", "done", "first"] | AtLeast
"""The task behind a group starts when "all" members have succeeded, when all have ended, however ("done": it
takes their Outcomes), when the "first" has succeeded, or when `at_least` so many have."""

_NAMES: Final = ("all", "done", "first")


def at_least(members: int | str) -> AtLeast:
    """Return the join that needs so many successful *members*: a number, or a share such as "80%".

    Raises InvalidWorkflowError.
    """
    if isinstance(members, int) and not isinstance(members, bool) and members >= 1:
        return AtLeast(count=members)
    if isinstance(members, str) and members.endswith("%"):
        try:
            percent = float(members[:-1])
        except ValueError:
            percent = 0.0
        if 0 < percent <= 100:
            return AtLeast(percent=percent)
    raise InvalidWorkflowError(
        f"at_least must be a number of members from 1 on, or a share such as '80%', got {shown(members)}"
    )


def check_join(join: object, *, fail_fast: object) -> Join:
    """Return *join* if it is one. Raises InvalidWorkflowError."""
    if not isinstance(fail_fast, bool):
        raise InvalidWorkflowError(f"fail_fast must be True or False, got {shown(fail_fast)}")
    if fail_fast and join == "done":
        raise InvalidWorkflowError(
            "join='done' starts the body whatever fails, which rules out fail_fast=True; set only one"
        )
    if isinstance(join, AtLeast):
        return join
    for name in _NAMES:
        if join == name:
            return name
    raise InvalidWorkflowError(
        f"join must be 'all', 'done', 'first', at_least(8) or at_least('80%'), got {shown(join)}"
    )
