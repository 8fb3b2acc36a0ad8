"""The interfaces of other frameworks, over a PgQueue: their users' code runs with only its imports changed.

A layer is thin: it uses what `import pgqueue` has, and nothing from inside. What it does not have raises
NotImplementedError where it is used, and the error names pgqueue's own way; nothing is ignored in silence.
docs/reference/compat.md says what differs.
"""

from pgqueue.compat.addresses import ForeignAddressWarning, read_address, read_addresses
from pgqueue.compat.clients import connected, disconnect
from pgqueue.compat.missing import Lacking, NotThereError, not_there

__all__ = [
    "ForeignAddressWarning",
    "Lacking",
    "NotThereError",
    "connected",
    "disconnect",
    "not_there",
    "read_address",
    "read_addresses",
]
