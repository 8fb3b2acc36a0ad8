"""`GenericActor`: actors that are classes."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from pgqueue.compat.dramatiq.actor import Actor, actor


class GenericActor:
    """Base class of actors that are classes: each subclass is one, and its `perform` is called.

    An inner class `Meta` has its options. One with `abstract = True` is no actor itself, and its subclasses
    inherit its options.
    """

    __actor__: ClassVar[Actor]
    _options: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = vars(vars(cls).get("Meta", object))
        told = {name: value for name, value in own.items() if not name.startswith("_")}
        is_abstract = told.pop("abstract", False)
        cls._options = {**cls._options, **told}
        if is_abstract:
            return
        instance = cls()

        def perform(*args: Any, **kwargs: Any) -> Any:
            return instance.perform(*args, **kwargs)

        perform.__name__, perform.__module__ = cls.__name__, cls.__module__
        perform.__signature__ = inspect.signature(instance.perform)  # type: ignore[attr-defined]
        cls.__actor__ = actor(**cls._options)(perform)
        for name in ("send", "send_with_options", "message", "message_with_options"):
            setattr(cls, name, staticmethod(getattr(cls.__actor__, name)))

    def perform(self, *args: Any, **kwargs: Any) -> Any:
        """Process a message."""
        raise NotImplementedError(f"{type(self).__name__} does not implement perform()")
