"""What the package index calls pgqueue, and how its extras are installed.

The name `pgqueue` belongs to another project there, a client of PgQ of 2016. You still import `pgqueue`.
"""

from __future__ import annotations

DISTRIBUTION = "pgqueue-asyncio"


def pip_install(extra: str) -> str:
    """Return the command that installs pgqueue with the optional packages of *extra*, in backquotes."""
    return f"`pip install '{DISTRIBUTION}[{extra}]'`"
