"""qwenctl keeps one local model answering."""

__version__ = "0.1.0"
