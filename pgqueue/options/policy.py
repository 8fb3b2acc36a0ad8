"""How one attempt runs and what follows it: the options of all levels, resolved."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pgqueue.options.levels import DEFAULTS, NO_OPTIONS, Options, retry_fields
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
        """Resolve *options*, which every level but the defaults is merged into. Never raises.

        *call*: those that the call set itself.
        """
        whole = DEFAULTS | options
        soft, hard = resolve_limits(
            whole["soft_timeout"],
            whole["timeout"],
            sets_soft="soft_timeout" in options,
            sets_hard="timeout" in options,
        )
        return cls(
            soft_timeout=soft,
            timeout=hard,
            retry_on_timeout=whole["retry_on_timeout"],
            retry=RetryPolicy(**retry_fields(whole), fixed=frozenset(retry_fields(call))),
            max_losses=whole["max_losses"] if whole["acks_late"] else 0,
            acks_late=whole["acks_late"],
            ignore_result=whole["ignore_result"],
        )
