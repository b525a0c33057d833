"""Measure an endpoint's speed, compare measurements, and tune the server with them."""
