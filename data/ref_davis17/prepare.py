"""Turn the published files of Ref-DAVIS17 in this folder into samples.jsonl, and print what was kept and dropped.

    python data/ref_davis17/prepare.py
    python data/ref_davis17/prepare.py --folder /where/they/lie

README.md says where the files come from and how they lie.
"""

import sys
from pathlib import Path

from evqa.tasks import script

if __name__ == "__main__":
    sys.exit(script.run(__doc__, ["ref-davis17"], Path(__file__).resolve().parent))
