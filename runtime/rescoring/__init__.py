"""Rescoring of a recogniser's n-best lists."""
