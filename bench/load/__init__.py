"""Open-loop and closed-loop load on a stream pool and on a server."""
