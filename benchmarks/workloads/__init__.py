"""The models that are measured, as text: the same arguments give the same text."""
