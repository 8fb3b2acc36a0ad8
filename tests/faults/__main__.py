"""`python -m tests.faults`, from the project's folder."""

import sys
from pathlib import Path

# Tests import each other from their own folder.
sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.command import main

if __name__ == "__main__":
    sys.exit(main())
