"""Master keys: the contract of whoever holds them, and holders of a value and of a file."""
