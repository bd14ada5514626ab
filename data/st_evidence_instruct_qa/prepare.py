"""ST-Evidence-Instruct (generated questions): convert the published files to st_evidence_qa.jsonl, with counts.

    python data/st_evidence_instruct_qa/prepare.py
    python data/st_evidence_instruct_qa/prepare.py --folder /where/vicas/lies

README.md has the source and the layout of the files.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, ["st-evidence-instruct-qa"], Path(__file__).resolve().parents[1] / "vicas"))
