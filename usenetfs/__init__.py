"""A filesystem whose disk is Usenet."""

__version__ = "0.1.0"
