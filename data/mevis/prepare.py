"""MeViS: turn the published files in this folder into samples.jsonl, and say what was dropped.

    python data/mevis/prepare.py
    python data/mevis/prepare.py --folder /where/they/lie

README.md says where the files come from and how they lie.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, ["mevis"], Path(__file__).resolve().parent))
