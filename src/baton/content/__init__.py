"""Text to chunks and back: pure functions, no Redis."""
