"""What a user installs: the wheel, alone, without the checkout."""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from pgqueue import __version__
from pgqueue.package import DISTRIBUTION, pip_install

CHECKOUT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for folder in ("templates", "static")
    for path in (CHECKOUT / "pgqueue/web/pages" / folder).iterdir()
)
# Whatever a reader may copy a command from.
TEXTS = sorted(
    path.relative_to(CHECKOUT)
    for pattern in (
        "*.md",
        "*.toml",
        ".ci/*",
        "pgqueue/**/*.py",
        "pgqueue/**/*.html",
        "docs/**/*.md",
        "examples/**/*",
    )
    for path in CHECKOUT.glob(pattern)
    if path.is_file() and "__pycache__" not in path.parts
)
SQL = sorted(path.relative_to(CHECKOUT).as_posix() for path in (CHECKOUT / "sql").rglob("*.sql"))

LOAD = """
from pathlib import Path
import pgqueue
from pgqueue.database.sql import ROOT, load_migrations, load_statements

print(Path(pgqueue.__file__).parent)
print(ROOT)
print(len(load_statements("pgqueue")) + len(load_migrations("pgqueue")))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a release builds it: from the source distribution."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(CHECKOUT))
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an empty environment in which the wheel was installed."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False, symlinks=True)
    interpreter = home / "bin" / "python"
    # Our own pip, told to work for the other interpreter.
    run(sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--no-deps", str(wheel))
    # The dependencies are ours, behind what the environment has itself. A .pth in a folder that a .pth
    # names is not read, so our editable install of pgqueue stays out of sight.
    [packages] = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    return interpreter


def run(*command: str, cwd: Path | None = None) -> str:
    """Run a command and return what it printed; fail with that if it failed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_wheel_carries_every_sql_file_and_says_that_it_is_typed(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()

    packaged = sorted(name.removeprefix("pgqueue/") for name in names if name.endswith(".sql"))
    assert packaged == SQL
    assert "pgqueue/py.typed" in names


def test_the_wheel_carries_the_templates_and_files_of_the_pages(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()

    assert len(PAGES) > 10
    assert set(PAGES) <= set(names)


def test_the_wheel_carries_the_package_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        roots = {name.split("/")[0] for name in archive.namelist()}

    assert {root for root in roots if not root.endswith(".dist-info")} == {"pgqueue", "pytest_pgqueue.py"}


def test_the_installed_command_says_its_version(python: Path, tmp_path: Path) -> None:
    printed = run(str(python.with_name("pgqueue")), "--version", cwd=tmp_path)

    assert __version__ in printed


def test_the_installed_package_loads_its_own_sql(python: Path, tmp_path: Path) -> None:
    printed = run(str(python), "-c", LOAD, cwd=tmp_path)

    package, root, count = printed.split()
    installed = python.parents[1]
    assert Path(package).is_relative_to(installed)
    assert Path(root) == Path(package) / "sql"
    # All of it but schema.sql, which is for reading, and roles.sql, which a command prints.
    assert int(count) == len(SQL) - 2


def test_the_wheel_has_the_name_and_the_extras_that_messages_tell(wheel: Path) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    told = {
        extra
        for path in TEXTS
        for names in re.findall(r"pip_install\(['\"]([\w-]+)|pgqueue-asyncio\[([\w,-]+)", path.read_text())
        for extra in ",".join(names).split(",")
        if extra
    }

    assert project["name"] == DISTRIBUTION
    assert wheel.name.startswith(f"{DISTRIBUTION.replace('-', '_')}-{__version__}-")
    assert told <= set(project["optional-dependencies"])
    assert pip_install("cli") == "`pip install 'pgqueue-asyncio[cli]'`"


def test_no_text_advises_to_install_the_other_project() -> None:
    """`pgqueue` on the package index is somebody else's."""
    advice = r"(?:install|add)\b[^\n`&]*?[\s'\"]pgqueue(?![\w-]|:)[^\n]*|(?<![\w.])pgqueue\[\w+\]"
    advised = {path.name: found for path in TEXTS if (found := re.findall(advice, path.read_text()))}

    assert advised == {}
