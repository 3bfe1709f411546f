"""What cannot be said in the language of another tool."""

from __future__ import annotations


class NotExportable(Exception):
    """The model has something that the other tool's language cannot say, or that is not known; the message says what."""
