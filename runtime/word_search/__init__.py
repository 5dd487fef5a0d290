"""Whole words by a model of parts of words: a best-first search over the tokens that may follow a text."""
