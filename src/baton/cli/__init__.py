"""The `baton` command: one module for each command or group, loaded when it is called."""
