"""A wrong call is a type error."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = [
    Path(__file__).parent / "typing" / "readme.py",
    Path(__file__).parents[1] / "workflows" / "typing" / "canvas.py",
    Path(__file__).parents[1] / "integrations" / "typing" / "connections.py",
]


async def check_types(paths: list[Path], cache: Path) -> tuple[int, str]:
    """Check *paths* as a strict user would, and return the exit code and what was said."""
    done = await anyio.run_process(
        [
            sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--warn-unreachable",
            "--config-file=", "--cache-dir", str(cache), *map(str, paths),
        ],
        check=False,
        cwd=ROOT,
    )  # fmt: skip
    return done.returncode, done.stdout.decode() + done.stderr.decode()


@pytest.mark.contract("P1.3", "P7.2")
async def test_a_strict_type_checker_accepts_right_calls_and_refuses_wrong_ones(tmp_path: Path) -> None:
    pytest.importorskip("mypy")

    # An expected error that does not come is an unused ignore, which is an error itself.
    code, said = await check_types(EXAMPLES, tmp_path)

    assert (code, said) == (0, "Success: no issues found in 3 source files\n")
