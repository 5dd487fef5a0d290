"""Files and JSON."""
