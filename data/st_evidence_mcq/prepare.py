"""ST-Evidence (multiple choice): turn the published files in this folder into samples.jsonl, and say what was dropped.

    python data/st_evidence_mcq/prepare.py
    python data/st_evidence_mcq/prepare.py --folder /where/they/lie

README.md says where the files come from and how they lie.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, ["st-evidence-mcq"], Path(__file__).resolve().parent))
