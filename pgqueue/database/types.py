"""Has a new connection know the types of lists before it meets them.

asyncpg asks the server about each type that it was not built with, on each new connection: a statement of
7 to 20 ms for each kind of list, at the worst of times, when a whole fleet connects again. The types of
PostgreSQL's own lists have the same numbers on every server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pgqueue.database.times import read_far_times

if TYPE_CHECKING:
    from pgqueue.database.connection import Connection

_LISTS: Final = {
    "bool": (1000, 16),
    "name": (1003, 19),
    "int2": (1005, 21),
    "int4": (1007, 23),
    "int8": (1016, 20),
    "float8": (1022, 701),
    "timestamptz": (1185, 1184),
    "interval": (1187, 1186),
    "json": (199, 114),
    "uuid": (2951, 2950),
}
"""The numbers of the type of a list and of its elements. asyncpg knows those of text itself."""

_KNOWN: Final = [
    {
        "oid": oid,
        "ns": "pg_catalog",
        "name": f"_{name}",
        "kind": b"b",
        "basetype": None,
        "elemtype": element,
        "elemdelim": ",",
        "range_subtype": None,
        "attrtypoids": None,
        "attrnames": None,
        "depth": 0,
        "basetype_name": None,
        "elemtype_name": name,
        "range_subtype_name": None,
    }
    for name, (oid, element) in _LISTS.items()
]
"""The same as the rows by which the server describes types to asyncpg."""


async def know_types(connection: Connection) -> None:
    """Have *connection* read any time that is stored, and lists without asking for their types."""
    await read_far_times(connection)
    # Lists of times are made of what reads a time: they come second.
    settings: Any = connection.get_settings()
    settings.register_data_types(_KNOWN)
