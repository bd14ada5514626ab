"""ViCaS: turn the published files in this folder into samples.jsonl, and say what was dropped.

    python data/vicas/prepare.py
    python data/vicas/prepare.py --folder /where/they/lie

README.md says where the files come from and how they lie.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, ["vicas"], Path(__file__).resolve().parent))
