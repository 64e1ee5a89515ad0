"""``python -m stablevsr`` is the same as the ``stablevsr`` command."""

import sys

from stablevsr.cli import main

if __name__ == "__main__":
    sys.exit(main())
