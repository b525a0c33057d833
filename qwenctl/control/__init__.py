"""The daemon: what it is told, what it tells, and how its parts are put together."""
