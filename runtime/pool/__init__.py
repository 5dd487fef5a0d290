"""Many streams at once: continuous batching over one session."""
