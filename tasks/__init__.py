"""Thin Celery tasks: decode, call one service of the running app, map its error, encode."""
