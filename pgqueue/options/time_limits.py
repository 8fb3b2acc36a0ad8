"""The time limits of an attempt: which hold, where several levels set them. Pure functions of values.

The soft limit interrupts the handler, which may clean up; the hard limit ends the attempt. Both count from
the handler's start.
"""

from __future__ import annotations

from typing import Final

from pgqueue.errors import InvalidOptionError

DEFAULT_SOFT: Final = 3000.0
DEFAULT_HARD: Final = 3600.0


def resolve_limits(
    soft: float | None, hard: float | None, *, sets_soft: bool, sets_hard: bool
) -> tuple[float | None, float | None]:
    """Return the soft and the hard limit that hold; None: there is none.

    *sets_soft* and *sets_hard* say whether some level sets them; where none does, the default holds. A
    default gives way to what was set: no soft limit where it would not come first, and a hard limit as long
    after the soft one as it is by default.

    Never raises: limits of levels that do not fit together leave the hard one alone. See `check_limits`.
    """
    if not sets_soft:
        soft = DEFAULT_SOFT
    if not sets_hard:
        hard = DEFAULT_HARD
        if sets_soft and soft is not None and soft >= hard:
            hard = soft + (DEFAULT_HARD - DEFAULT_SOFT)
    if soft is not None and hard is not None and soft >= hard:
        soft = None
    return soft, hard


def check_limits(where: str, soft: float | None, hard: float | None) -> None:
    """Raise InvalidOptionError if both limits are set and the soft one does not come first."""
    if soft is not None and hard is not None and soft >= hard:
        raise InvalidOptionError(
            f"{where}: soft_timeout is {soft:g} s and timeout {hard:g} s: the soft limit must come before "
            "the hard one; lower soft_timeout, raise timeout, or set one of them to None"
        )
