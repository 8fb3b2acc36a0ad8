"""How one attempt runs and what follows it: the options of all levels, resolved."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pgqueue.model.unset import UNSET
from pgqueue.options.levels import _NAMES, _RETRY_FIELDS, DEFAULTS, NO_OPTIONS, Options, _retry_fields
from pgqueue.options.time_limits import resolve_limits
from pgqueue.retry.policy import RetryPolicy


@dataclass(frozen=True, slots=True)
class Policy:
    """How one attempt runs and what follows it: the options of all levels, resolved."""

    soft_timeout: float | None
    timeout: float | None
    retry_on_timeout: bool
    retry: RetryPolicy
    max_losses: int
    acks_late: bool
    ignore_result: bool
    first_limit: float = field(init=False)
    """Seconds from the handler's start to the nearer limit; infinite without one."""

    def __post_init__(self) -> None:
        """Work out what every attempt asks for."""
        limits = (limit for limit in (self.soft_timeout, self.timeout) if limit is not None)
        object.__setattr__(self, "first_limit", min(limits, default=math.inf))

    @classmethod
    def of(cls, options: Options, call: Options = NO_OPTIONS) -> Policy:
        """Resolve *options*, which have every level but the defaults merged into them. Never raises.

        *call* has what the call set itself.
        """
        whole = options.over(DEFAULTS)
        values = {name: getattr(whole, name) for name in _NAMES}
        soft, hard = resolve_limits(
            values["soft_timeout"],
            values["timeout"],
            sets_soft=options.soft_timeout is not UNSET,
            sets_hard=options.timeout is not UNSET,
        )
        return cls(
            soft_timeout=soft,
            timeout=hard,
            retry_on_timeout=values["retry_on_timeout"],
            retry=RetryPolicy(
                **{each: values[name] for name, each in _RETRY_FIELDS.items()},
                fixed=frozenset(_retry_fields(call)),
            ),
            max_losses=values["max_losses"] if values["acks_late"] else 0,
            acks_late=values["acks_late"],
            ignore_result=values["ignore_result"],
        )
