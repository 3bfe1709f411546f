"""Other tools on the same models: each is asked through what `modelcheck export` writes, in a process of its own."""
