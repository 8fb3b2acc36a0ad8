"""`python -m pgqueue` and the command `pgqueue`."""

from __future__ import annotations

import sys

from pgqueue.package import pip_install


def main() -> None:
    """Run the command line, or name the package that it needs."""
    try:
        from pgqueue.cli import app
    except ImportError as error:
        sys.exit(f"pgqueue: the command line needs {error.name}; run {pip_install('cli')}")
    app()


if __name__ == "__main__":
    main()
