"""The runtimes that are measured."""
