"""Turn the sets of VideoRefer in this folder into a file of samples each, and print what was kept and dropped.

    python data/videorefer/prepare.py videorefer-qa

README.md says where the files come from and how they lie.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, prepare_command.sets_of("videorefer"), Path(__file__).resolve().parent))
