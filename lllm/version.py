"""The version of the installed library, which every session names as its producer."""

__version__ = "0.1.0"
