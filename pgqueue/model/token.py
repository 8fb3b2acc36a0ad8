"""What a token for HTTP must be like."""

from __future__ import annotations

import re
from typing import Final

from pgqueue.errors import ConfigurationError

SHORTEST_TOKEN: Final = 16
"""Characters. Guesses of a bearer token are not slowed down, so it must be long."""
MAKE_TOKEN: Final = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"  # noqa: S105  # a command


def check_token(token: object) -> None:
    """Raise ConfigurationError for a token that is too short, or that no request can carry."""
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise ConfigurationError(
            f"the token must be a string of visible ASCII characters without spaces, e.g. from `{MAKE_TOKEN}`"
        )
    if len(token) < SHORTEST_TOKEN:
        raise ConfigurationError(
            f"the token must be at least {SHORTEST_TOKEN} characters long, got {len(token)}; "
            f"`{MAKE_TOKEN}` makes one"
        )
