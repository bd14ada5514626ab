"""Turn the sets of Inst-IT in this folder into a file of samples each, and print what was kept and dropped.

    python data/inst_it/prepare.py inst-it-image inst-it-video-qa

README.md says where the files come from and how they lie.
"""

import sys
from pathlib import Path

from evqa.tasks import script

if __name__ == "__main__":
    sys.exit(script.run(__doc__, script.sets_of("inst_it"), Path(__file__).resolve().parent))
