"""What is to be served: profiles, and the headers of GGUF files."""
