"""Makes the table of ImageNet's nouns of the encoder `imagenet-minilm`, evqa/retrieval/imagenet_nouns.{txt,npy}.

    python benchmark/label_table.py INFO

INFO is the folder `timm/data/_info` of the wheel timm (1.0.31): the classes of ImageNet-1k in their usual order, with
the words and definitions of WordNet 3.0 for each. Needs the extra `search`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from evqa.retrieval.label_encoder import LABEL_VECTORS, LABELS
from evqa.retrieval.minilm import MiniLM

FOLDER = Path(__file__).parent / "evqa" / "retrieval"


def _table(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {synset: text for synset, _, text in (line.partition("\t") for line in lines)}


def main(info: Path) -> None:
    """Write the two files."""
    words = _table(info / "imagenet_synset_to_lemma.txt")
    definitions = _table(info / "imagenet_synset_to_definition.txt")
    synsets = (info / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    labels = [f"{words[synset]}: {definitions.get(synset, '')}".replace("_", " ") for synset in synsets]
    (FOLDER / LABELS).write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    model = MiniLM()
    np.save(FOLDER / LABEL_VECTORS, np.stack([model.encode(label) for label in labels]).astype(np.float16))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
