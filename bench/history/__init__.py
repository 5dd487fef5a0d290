"""The history of benchmarks: a file a run, series over runs, the changes between them, and a page of curves."""
