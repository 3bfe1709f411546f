"""The command line: what is asked for, what is printed where, which exit status comes back.

One module for each command: `add` says how it is called, `run` does it and gives its exit status. What a command needs
it imports when it runs, so that `--help` is quick and nothing that can do without Z3 loads it.
"""

from modelcheck.cli.entry import main

__all__ = ["main"]
