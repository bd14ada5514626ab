"""Convert the data sets of Inst-IT to files of samples, with counts of kept and dropped rows.

    python data/inst_it/prepare.py inst-it-image inst-it-video-qa

README.md has the source and the layout of the files.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, prepare_command.sets_of("inst_it"), Path(__file__).resolve().parent))
