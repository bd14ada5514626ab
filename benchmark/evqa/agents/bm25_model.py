"""The model `bm25`: it ranks texts, such as the subtitles of clips, by the words of a query. It needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from evqa.models.base import Capabilities, ModelError
from evqa.models.messages import Decoding, Message, Reply, ToolSpec
from evqa.retrieval.bm25 import K1, B, Bm25


class Bm25Model:
    """Ranker of texts by BM25, for the role grounding."""

    def __init__(self, *, name: str = "bm25") -> None:
        self.name = name
        self.capabilities = Capabilities(concurrency=256, ranks_texts=True)

    @property
    def settings(self) -> Mapping[str, str | int | float | bool | None]:
        """Parameters of the score."""
        return {"k1": K1, "b": B}

    def rank_texts(self, query: str, texts: tuple[str, ...]) -> Sequence[int]:
        """Indices of the texts that have a word of the query, the best one first."""
        return [hit.row for hit in _index(texts).search(query, max(len(texts), 1))]

    def generate(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = (), decoding: Decoding | None = None
    ) -> Reply:
        """Raise a `ModelError`: the model does not reply."""
        del messages, tools, decoding
        raise ModelError(f"{self.name} ranks texts and does not reply: give it the role grounding")


@lru_cache(maxsize=16)
def _index(texts: tuple[str, ...]) -> Bm25:
    """Index of the texts of an episode; questions about one episode often follow each other."""
    return Bm25(texts)
