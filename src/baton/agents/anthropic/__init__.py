"""The Anthropic runner: a node's work done by a model over the Messages API.

Only this package imports the SDK, which the extra `anthropic` installs; `loading.open_runner` is
the way in for whoever may run without it.
"""
