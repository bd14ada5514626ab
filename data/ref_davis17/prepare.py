"""Ref-DAVIS17: turn the published files in this folder into samples.jsonl, and say what was dropped.

    python data/ref_davis17/prepare.py
    python data/ref_davis17/prepare.py --folder /where/they/lie

README.md says where the files come from and how they lie.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, ["ref-davis17"], Path(__file__).resolve().parent))
