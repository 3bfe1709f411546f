"""A run over many files: settings, cached verdicts, workers, the baseline.

Nothing here decides anything about a model. It decides who is asked (`cache`, `work`), how long (`workers`), and what
of the answers is news (`baseline`); whatever goes wrong on the way is no proof.
"""
