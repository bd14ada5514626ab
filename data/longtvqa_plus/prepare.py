"""longtvqa-plus: convert the published files to samples, with counts of kept and dropped rows.

    python data/longtvqa_plus/prepare.py
    python data/longtvqa_plus/prepare.py longtvqa-plus longtvqa-plus-train --folder /path/of/the/files

README.md has the source and the layout of the files.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    names = prepare_command.sets_of("longtvqa_plus")
    sys.exit(prepare_command.run(__doc__, names, Path(__file__).resolve().parent, default=names[:1]))
