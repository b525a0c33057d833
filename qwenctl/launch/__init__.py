"""How the server is started: the argument list, and what its log says of the load."""
