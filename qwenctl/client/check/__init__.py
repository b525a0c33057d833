"""Check an endpoint: what every server must do, and what a good model can do."""
