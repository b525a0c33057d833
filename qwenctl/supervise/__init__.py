"""Keeps one llama-server running: decides (lifecycle, exits) and carries out (supervisor, child, health)."""
