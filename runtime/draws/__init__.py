"""The draws of tokens."""
