"""Conversations that survive a restart: which slots are saved, where, and how they are restored."""
