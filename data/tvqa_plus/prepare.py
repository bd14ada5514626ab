"""tvqa-plus: convert the published files to samples, with counts of kept and dropped rows.

    python data/tvqa_plus/prepare.py
    python data/tvqa_plus/prepare.py tvqa-plus tvqa-plus-train tvqa-plus-test --folder /path/of/the/files

README.md has the source and the layout of the files.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    names = prepare_command.sets_of("tvqa_plus")
    sys.exit(prepare_command.run(__doc__, names, Path(__file__).resolve().parent, default=names[:1]))
