"""The cases of the suite, a module for each group."""
