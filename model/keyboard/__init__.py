"""Typing measured: a text is typed letter by letter against suggestions."""
