"""Processes that each verify or time one backend."""
