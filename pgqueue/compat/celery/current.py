"""Which app, and which task, is the current one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

shared: Final[dict[str, Callable[[Any], Any]]] = {}
"""What makes the tasks of `shared_task` for an app, by their names."""
running: Final[ContextVar[tuple[Any, Any] | None]] = ContextVar("pgqueue.compat.celery", default=None)
"""The task that is running here, and its request."""
make_default: Final[list[Callable[[], Any]]] = []
"""Makes an app where there is none."""
_current: Final[list[Any]] = []
_lock: Final = threading.RLock()


def set_current(app: Any) -> None:
    """Have *app* be the current one."""
    _current[:] = [app]


def find_app() -> Any:
    """Return the current app; if there is none yet, a new one, whose database is that of PGQUEUE_DSN."""
    with _lock:
        if not _current:
            set_current(make_default[0]())
        return _current[0]


class Proxy:
    """Stands for what is current when it is used."""

    def __init__(self, name: str, find: Any) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_find", find)

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_find")(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(object.__getattribute__(self, "_find")(), name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it; of `current_app()`, return the app."""
        return object.__getattribute__(self, "_find")()(*args, **kwargs)

    def __bool__(self) -> bool:
        return object.__getattribute__(self, "_find")() is not None

    def __eq__(self, other: object) -> bool:
        return bool(object.__getattribute__(self, "_find")() == other)

    def __hash__(self) -> int:
        return hash(object.__getattribute__(self, "_find")())

    def __repr__(self) -> str:
        return f"<{object.__getattribute__(self, '_name')}>"
