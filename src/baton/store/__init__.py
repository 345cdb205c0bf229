"""Contexts in Redis: immutable chunks, manifests, versions, access notes."""
