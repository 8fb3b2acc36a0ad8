"""What travels with a message's job beside its call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

OPTIONS: Final = "dramatiq-options"
PLACE: Final = "dramatiq-place"
"""Where the result of the message before goes among the arguments."""
FEEDS: Final = "dramatiq-feeds"
"""Present if the result goes to another message, whether it is stored or not."""


def header_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the header with a message's options. Raises TypeError for what is no JSON."""
    told = {name: value for name, value in options.items() if name not in {"delay", "pipe_ignore"}}
    return {OPTIONS: json.dumps(told, default=_plain)} if told else {}


def options_in(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a message."""
    return dict(json.loads(headers.get(OPTIONS, "{}")))


def _plain(value: object) -> Any:
    total = getattr(value, "total_seconds", None)
    if total is None:
        raise TypeError(f"an option of a message must be JSON, got {value!r}")
    return total() * 1000
