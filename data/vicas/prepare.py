"""ViCaS: convert the published files to samples.jsonl, with counts of kept and dropped rows.

    python data/vicas/prepare.py
    python data/vicas/prepare.py --folder /path/of/the/files

README.md has the source and the layout of the files.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, ["vicas", "vicas-val", "vicas-test"], Path(__file__).resolve().parent))
