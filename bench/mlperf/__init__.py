"""Benchmarks by MLPerf's rules: LoadGen's four scenarios, the highest valid rate, audits."""
