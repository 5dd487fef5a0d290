"""The command `python bench/studies/gpu`, which the package describes."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])

from common.program import run_program  # noqa: E402

from gpu.gathering import main  # noqa: E402  # from the folder that was just added

if __name__ == "__main__":
    run_program(main)
