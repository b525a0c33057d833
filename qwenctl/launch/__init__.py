"""From a plan to a command line, and from the engine what it thinks of it."""
