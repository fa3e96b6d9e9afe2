"""``python -m coldray``: the command ``coldray``."""

import sys

from coldray.command.app import main

if __name__ == "__main__":
    sys.exit(main())
