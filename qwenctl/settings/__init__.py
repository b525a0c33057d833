"""What the person wants, and where each value came from."""
