"""torchrun that ends with the exit code of the process that failed first, and with no traceback of its own.

torchrun itself ends with 1, whatever the reason, and prints where its own code was; the process that failed has said
what is wrong in a line. Options are those of `torch.distributed.run`.
"""

from __future__ import annotations

import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> int:
    """Run the command line; the exit code of the first process that failed (1 where a signal ended it), or 0."""
    try:
        run.main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.stderr.write(f"process {rank} ended with exit code {failure.exitcode}; the others are stopped\n")
        return max(failure.exitcode, 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
