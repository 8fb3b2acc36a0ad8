"""What makes pages of the docs from the code: the scripts of docs/generate."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from kit.snippets import DOCS


def load_generator(name: str) -> ModuleType:
    """Import a script of docs/generate, which is no package."""
    spec = importlib.util.spec_from_file_location(f"generate_{name}", DOCS / "generate" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
