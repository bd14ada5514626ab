"""MJ-Bench-Video: convert the published files to samples.jsonl, with counts of kept and dropped rows.

    python data/mj_bench_video/prepare.py
    python data/mj_bench_video/prepare.py --folder /path/of/the/files

README.md has the source and the layout of the files.
"""

import sys
from pathlib import Path

from evqa.datasets.formats import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command.run(__doc__, ["mj-bench-video"], Path(__file__).resolve().parent))
