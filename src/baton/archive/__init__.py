"""The archive: contexts that left Redis, sealed in a cold store and found again by meaning."""
