"""Many texts in a call: whether that is exact, and the scores of lines."""
