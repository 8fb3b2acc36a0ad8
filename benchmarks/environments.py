"""Virtual environments for programs that need libraries of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_ASKED = "import ensurepip, sys; print(*sys.version_info[:2])"


class EnvironmentFailedError(Exception):
    """No such environment can be made here; the message says why."""


def environment(folder: Path, requirements: Sequence[str], *, python: tuple[int, int]) -> Path:
    """Return the interpreter of an environment in *folder* that has *requirements*; make it if there is none.

    It is made with this Python if that is *python* or newer, else with one of that version.
    """
    interpreter, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "".join(f"{line}\n" for line in requirements)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return interpreter
    base = sys.executable if sys.version_info >= python else _python_of(python)
    _call([base, "-m", "venv", "--clear", str(folder)])
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([*pip, *requirements])
    # Last: what has it is whole.
    stamp.write_text(wanted, encoding="utf-8")
    return interpreter


def _python_of(version: tuple[int, int]) -> str:
    """Return an interpreter of *version*; one on the PATH may be a shim that stands for nothing."""
    name = "{}.{}".format(*version)
    installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"{name}.*/bin/python"))
    for candidate in [*installed, shutil.which(f"python{name}")]:
        if candidate is None:
            continue
        asked = subprocess.run([candidate, "-c", _ASKED], capture_output=True, text=True, check=False)
        if asked.stdout.split() == [str(part) for part in version]:
            return str(candidate)
    raise EnvironmentFailedError(f"it needs Python {name}, which is not here")


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise EnvironmentFailedError(said[-1] if said else f"{command[0]} ended with {done.returncode}")
