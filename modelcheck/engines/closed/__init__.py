"""The closed world: explicit search over the states of a scenario (docs/language.md section 7)."""
