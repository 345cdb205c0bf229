"""Three-way merges of text and of JSON documents: pure functions, no Redis."""
