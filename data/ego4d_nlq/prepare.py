"""Ego4D natural language queries: convert the published files to samples, with counts of kept and dropped queries.

    python data/ego4d_nlq/prepare.py ego4d-nlq
    python data/ego4d_nlq/prepare.py ego4d-nlq ego4d-nlq-train --folder /path/of/the/files

README.md has the source and the layout of the files.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    names = prepare_command.sets_of("ego4d_nlq")
    sys.exit(prepare_command.run(__doc__, names, Path(__file__).resolve().parent))
