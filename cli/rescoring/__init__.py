"""The command `rescore`, and the files that it reads."""
