"""Baton lets LLM agents hand work and context to each other without losing either."""
