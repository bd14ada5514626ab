"""Ref-DAVIS17: convert the published files to samples.jsonl, with counts of kept and dropped rows.

    python data/ref_davis17/prepare.py
    python data/ref_davis17/prepare.py --folder /path/of/the/files

README.md has the source and the layout of the files.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, prepare_command.sets_of("ref_davis17"), Path(__file__).resolve().parent))
