"""Handoffs: the tree of nodes in Redis, the engine that moves it, and what became of it."""
