"""Tell other programs about the endpoint: what to set, and their settings files."""
