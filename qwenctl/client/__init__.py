"""Use an endpoint: chat, check, bench, solve and connect. Works with any OpenAI-compatible server."""
