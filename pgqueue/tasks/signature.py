"""A call of a task, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, overload

from pgqueue.options.declared import CallOptions
from pgqueue.options.levels import NO_OPTIONS, Options, read_options
from pgqueue.options.table import Level
from pgqueue.tasks.canvas import Callback, Canvas, Chain, R_co, read_settings
from pgqueue.tasks.definition import TaskDefinition

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True, slots=True)
class Signature(Canvas[R_co]):
    """A call of a task, to enqueue later: alone or with others."""

    task: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: Options = NO_OPTIONS
    definition: TaskDefinition | None = field(default=None, repr=False)
    """None: this process only knows the task's name; the worker validates the arguments."""

    is_immutable: ClassVar[bool] = False
    """Whether it takes no result, wherever it stands."""

    @property
    def host(self) -> object | None:
        """The PgQueue that declares its task, if this process knows it."""
        return None if self.definition is None else self.definition.host

    @overload
    def set(self, **options: Unpack[CallOptions]) -> Signature[R_co]: ...
    @overload
    def set(
        self,
        *,
        on_success: Callback[R_co] | None = None,
        on_error: Callback[Any] | None = None,
        on_complete: Callback[R_co] | None = None,
        **options: Unpack[CallOptions],
    ) -> Canvas[R_co]: ...
    def set(self, **given: Any) -> Canvas[R_co]:
        """Return this call with other options, over those that it has, and callbacks: see Canvas.set."""
        options, callbacks = read_settings(f"task {self.task!r}", given, ())
        changed = replace(self, options=self.options | options) if options else self
        return Chain((changed,), callbacks=callbacks) if callbacks else changed

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        """Return this call with *headers* over those that it has, or that its task and queue give it.

        Raises InvalidOptionError.
        """
        if self.definition is None or self.definition.host is None:
            given = self.options.get("headers", {})
        else:
            host: Any = self.definition.host
            given = host.registry.resolve(self.task, self.definition, self.options)["headers"]
        options = read_options(f"task {self.task!r}", {"headers": {**given, **headers}}, Level.CALL)
        return replace(self, options=self.options | options)

    def clone(self, *args: Any, **kwargs: Any) -> Self:
        """Return this call with *args* before its own, and *kwargs* over its own."""
        return replace(self, args=(*args, *self.args), kwargs={**self.kwargs, **kwargs})


class Immutable(Signature[R_co]):
    """A call that takes no result, wherever it stands."""

    __slots__ = ()

    is_immutable = True
