"""How the server is started: the binary, what it knows, the argument list."""
