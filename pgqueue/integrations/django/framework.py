"""Django's Tasks framework: its own from Django 6.0 on, `django_tasks` before.

Both have the same names, but for one error. They are Any: neither has types that hold for both.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from pgqueue.package import pip_install


def _package() -> str:
    try:
        import_module("django")
    except ImportError as error:
        raise ImportError(f"pgqueue.integrations.django needs Django: {pip_install('django')}") from error
    for name in ("django.tasks", "django_tasks"):
        try:
            import_module(name)
        except ImportError as error:
            if error.name != name:
                raise
        else:
            return name
    raise ImportError(
        "pgqueue.integrations.django needs Django 6.0 or newer, or the package django-tasks: "
        f"{pip_install('django')}"
    )


PACKAGE: Final = _package()
_base: Final[Any] = import_module(f"{PACKAGE}.base")
_exceptions: Final[Any] = import_module(f"{PACKAGE}.exceptions")

BaseTaskBackend: Final[Any] = import_module(f"{PACKAGE}.backends.base").BaseTaskBackend
Task: Final[Any] = _base.Task
TaskContext: Final[Any] = _base.TaskContext
TaskError: Final[Any] = _base.TaskError
TaskResult: Final[Any] = _base.TaskResult
TaskResultStatus: Final[Any] = _base.TaskResultStatus
TASK_MIN_PRIORITY: Final[int] = _base.TASK_MIN_PRIORITY
TASK_MAX_PRIORITY: Final[int] = _base.TASK_MAX_PRIORITY
normalize_json: Final[Any] = _base.normalize_json
signals: Final[Any] = import_module(f"{PACKAGE}.signals")
TaskResultDoesNotExist: Final[Any] = _exceptions.TaskResultDoesNotExist
InvalidTask: Final[Any] = getattr(_exceptions, "InvalidTask", None) or _exceptions.InvalidTaskError
TaskResultMismatch: Final[Any] = _exceptions.TaskResultMismatch
InvalidTaskBackend: Final[Any] = getattr(_exceptions, "InvalidTaskBackend", None) or (
    _exceptions.InvalidTaskBackendError
)


def task_backends() -> Any:
    """Return the backends of `settings.TASKS`, by their aliases."""
    return import_module(PACKAGE).task_backends
