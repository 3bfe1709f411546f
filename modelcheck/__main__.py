"""`python -m modelcheck`."""

import sys

from modelcheck.cli import main

if __name__ == "__main__":
    sys.exit(main())
