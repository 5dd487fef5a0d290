"""What `--fix` can mend: each remedy changes a model in place, and yields what it changed."""
