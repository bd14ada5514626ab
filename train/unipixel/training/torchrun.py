"""torchrun with the exit code of the first failed process and without a traceback of its own.

torchrun exits with 1 for any reason and prints its own stack; the failed process has printed its error in one line.
Options are those of `torch.distributed.run`.
"""

from __future__ import annotations

import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> int:
    """Run the command line; the exit code is 0 or that of the first failed process (1 if a signal ended it)."""
    try:
        run.main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.stderr.write(f"process {rank} failed with exit code {failure.exitcode}; the other processes were stopped\n")
        return max(failure.exitcode, 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
