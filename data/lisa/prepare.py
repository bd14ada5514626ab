"""Turn the sets of pictures in this folder into a file of samples each, and print what was kept and dropped.

    python data/lisa/prepare.py refcoco ade20k

README.md says where the files come from and how they lie.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, prepare_command.sets_of("lisa"), Path(__file__).resolve().parent))
