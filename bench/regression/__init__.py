"""Regressions: comparisons with earlier results or earlier versions, and the gate that decides."""
