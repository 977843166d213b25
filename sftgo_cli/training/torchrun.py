"""torchrun without its own traceback: a rank that fails has already said in one line what was wrong.

Used as `python -m sftgo_cli.training.torchrun` with torchrun's own arguments.
"""

from __future__ import annotations

import logging
import sys


def main() -> int:
    """Run torchrun; 1 when a rank failed or a signal ended it."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as run

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        run(sys.argv[1:])
    except (ChildFailedError, SignalException):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
