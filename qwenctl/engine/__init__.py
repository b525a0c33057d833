"""The llama-server program: where it is, which flags and devices it has, its HTTP API."""
