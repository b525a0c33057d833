"""The daemon: the parts that act, and the place where they are put together."""
