"""Subwords: bytes as printable characters, pieces of text, merges of byte pairs; and the text of tokens of any rule."""
