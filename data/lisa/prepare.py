"""Convert the image data sets of LISA to files of samples, with counts of kept and dropped rows.

    python data/lisa/prepare.py refcoco ade20k

README.md has the source and the layout of the files.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, prepare_command.sets_of("lisa"), Path(__file__).resolve().parent))
