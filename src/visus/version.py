"""The version of visus: in a file of its own, below everything that writes it down."""

__version__ = "0.1.0"
