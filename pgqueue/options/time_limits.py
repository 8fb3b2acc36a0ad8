"""The time limits of an attempt: which apply if several levels set them. Pure functions of values.

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
    """Return the soft and the hard limit that apply; None: no limit.

    *sets_soft* and *sets_hard*: whether any level sets them; otherwise the default applies. A default gives
    way to a limit that was set: the soft limit is dropped if it would not come first, and the hard limit
    stays as long after the soft one as it is by default.

    Never raises: if the levels contradict each other, only the hard limit applies. See `check_limits`.
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
            f"{where}: soft_timeout ({soft:g} s) must be less than timeout ({hard:g} s); lower soft_timeout, "
            "raise timeout, or set one of them to None"
        )
