"""The llama-server program: where it is, what it knows, how it is asked."""
