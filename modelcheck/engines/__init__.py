"""Engines: they propose; `evidence` checks what they propose with Z3."""
