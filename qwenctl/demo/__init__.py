"""A tiny model with random weights, so that everything can be tried without a download."""
