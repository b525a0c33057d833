"""Bring the artifact: ask the hub, move the bytes, verify them, put them where every tool finds them."""
