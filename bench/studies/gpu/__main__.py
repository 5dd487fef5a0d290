"""The command `python bench/studies/gpu`, which the package describes."""

import runpy
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])
runpy.run_module("gpu.gathering", run_name="__main__", alter_sys=True)
