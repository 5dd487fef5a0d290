"""MLPerf's server scenario over a stream pool."""
