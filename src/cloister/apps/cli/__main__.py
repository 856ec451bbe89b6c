"""`python -m cloister.apps.cli`: the same as the command `cloister`, for where that is not on the path."""

import sys

from cloister.apps.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
