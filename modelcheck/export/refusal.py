"""What cannot be said in the language of another tool."""

from __future__ import annotations


class NotExportable(Exception):
    """The model has what the other tool's language cannot say, or what is not known; the message says what it is."""
