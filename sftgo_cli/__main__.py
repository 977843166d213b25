"""`python -m sftgo_cli` is `sftgo`: launchers start ranks this way."""

import sys

from sftgo_cli.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
