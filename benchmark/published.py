"""Every published script: a link to this file has its name, and its name says what to run (`evqa.published`)."""

import sys
from pathlib import Path

from evqa import published
from evqa.runs import interrupts

if __name__ == "__main__":
    interrupts.exit_now(published.main([Path(sys.argv[0]).name, *sys.argv[1:]]))
