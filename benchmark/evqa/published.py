"""Run a published script under its own name: `python -m evqa.published SCRIPT [ARGUMENTS]`.

`benchmark/st_evidence_gen/`, `benchmark/st_evidence_mcq/` and `train/scripts/` have a link with the name of each
published script, so that published commands work as they are typed; `evqa.official.scripts` is the table.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Sequence

from evqa.__main__ import main as evqa
from evqa.files import links
from evqa.files.output_streams import checked_output_streams
from evqa.official.scripts import translate
from evqa.runs import interrupts


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the command of ours, and run it; its exit code, or 2 where there is none."""
    script, *rest = (sys.argv[1:] if arguments is None else arguments) or ("",)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        step = translate(script, links.parse_allowed_roots(rest))
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for note in step.notes:
        sys.stderr.write(f"note: {note}\n")
    if step.gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = step.gpus
    sys.stderr.write(f"$ {shlex.join(['evqa', *step.arguments])}\n")
    return evqa(step.arguments)


if __name__ == "__main__":
    with checked_output_streams():
        interrupts.exit_now(main())
