"""`python -m lmtool.cli`."""

from . import main

main()
