"""BM25: ranked search of short texts, such as lines of subtitles, by their words.

The score of a text is that of Lucene's BM25 (Kamphuis, de Vries, Boytsov, Lin: "Which BM25 Do You Mean?", ECIR 2020):

    score(q, d) = sum over words w of q of  log(1 + (N - n(w) + 0.5) / (n(w) + 0.5))
                                          * f(w, d) / (f(w, d) + k1 * (1 - b + b * |d| / average |d|))

with `N` texts, of which `n(w)` contain `w`, `f(w, d)` times in `d`, and lengths in words. All weights are above 0, so
that each text with a word of the query has a score above 0, and no other has.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

K1 = 1.2
"""Default saturation of repeated words; that of Lucene."""

B = 0.75
"""Default strength of the normalisation by length, 0 to 1; that of Lucene."""

MAX_QUERY_CHARACTERS = 10_000
"""Characters of a query that are read."""

STOP_WORDS = frozenset(
    (
        *("a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not"),
        *("of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this", "to", "was"),
        *("will", "with"),
    )
)
"""English words that carry no topic: the list of Lucene's English analyser. Dropped from queries with other words."""

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W_{_IDEOGRAPHS}]+(?:['\u2019][^\W_{_IDEOGRAPHS}]+)*")


def words(text: str) -> list[str]:
    """Return the words of a text in order: NFKC, case folded, without plural and possessive endings.

    A word is a run of letters and digits of any script; in scripts without spaces (Chinese, Japanese) each character
    is a word.
    """
    normal = unicodedata.normalize("NFKC", text).casefold()
    return [_stem(word.replace("\u2019", "'")) for word in _WORD.findall(normal)]


def _stem(word: str) -> str:
    """Return an English word without plural or possessive ending: the S stemmer (Harman, JASIS 1991)."""
    word = word.removesuffix("'s")
    if len(word) <= 3 or not word.endswith("s"):
        return word
    if word.endswith("ies"):
        return word if word.endswith(("eies", "aies")) else f"{word[:-3]}y"
    if word.endswith(("xes", "ches", "shes", "sses", "zes")):
        return word[:-2]
    return word if word.endswith(("us", "ss")) else word[:-1]


def query_words(query: str) -> list[str]:
    """Return the words of a query; those of `STOP_WORDS` only where it has no others."""
    found_words = words(query[:MAX_QUERY_CHARACTERS])
    return [word for word in found_words if word not in STOP_WORDS] or found_words


class TextHit(NamedTuple):
    """A text that matches a query."""

    row: int
    """Index of the text."""
    score: float
    """Above 0; comparable between hits of one query."""


class _Postings(NamedTuple):
    """The texts that contain a word."""

    rows: NDArray[np.int64]
    weights: NDArray[np.float64]
    """Score of one occurrence of the word in a query, per row."""


class Bm25:
    """Search index over texts.

    Args:
        texts: texts in order; their indices are the rows of the hits.
        k1: see `K1`, at least 0.
        b: see `B`, 0 to 1.
    """

    def __init__(self, texts: Sequence[str], *, k1: float = K1, b: float = B) -> None:
        if not (0 <= k1 < float("inf") and 0 <= b <= 1):
            raise ValueError(f"expected a finite k1 of at least 0 and b from 0 to 1, got k1={k1}, b={b}")
        counts = [Counter(words(text)) for text in texts]
        lengths = np.array([count.total() for count in counts], dtype=np.float64)
        self._num_texts = len(counts)
        self._postings = _postings(counts, k1 * (1 - b + b * lengths / max(lengths.mean() if len(counts) else 0, 1e-9)))

    def __len__(self) -> int:
        """Number of texts."""
        return self._num_texts

    def scores(self, query: str) -> NDArray[np.float64]:
        """Return the score of each text, float64 [N]; 0 = it has no word of the query. Repeated words count again."""
        totals = np.zeros(self._num_texts)
        for word, number in Counter(query_words(query)).items():
            if (postings := self._postings.get(word)) is not None:
                totals[postings.rows] += number * postings.weights
        return totals

    def search(self, query: str, k: int, *, allowed: NDArray[np.bool_] | None = None) -> list[TextHit]:
        """Return the best texts for a query, the earlier text first where scores are equal.

        Args:
            query: words in any order; without a word that a text has, the result is empty.
            k: greatest number of hits, at least 1.
            allowed: bool [N], texts that may be hits; None = all. The statistics of words stay those of all texts.

        Raises:
            ValueError: `k` is below 1.
        """
        if k < 1:
            raise ValueError(f"expected a number of hits of at least 1, got {k}")
        scores = self.scores(query)
        if allowed is not None:
            scores = np.where(allowed, scores, 0)
        rows = np.argsort(-scores, kind="stable")[:k]
        return [TextHit(int(row), float(scores[row])) for row in rows if scores[row] > 0]


def _postings(counts: Sequence[Counter[str]], norms: NDArray[np.float64]) -> dict[str, _Postings]:
    """Return word -> postings; `norms` is float64 [N], the summand of the denominator."""
    occurrences: dict[str, list[tuple[int, int]]] = {}
    for row, count in enumerate(counts):
        for word, number in count.items():
            occurrences.setdefault(word, []).append((row, number))
    postings: dict[str, _Postings] = {}
    for word, pairs in occurrences.items():
        rows, numbers = np.array(pairs, dtype=np.int64).T
        idf = np.log(1 + (len(counts) - len(rows) + 0.5) / (len(rows) + 0.5))
        postings[word] = _Postings(rows, idf * numbers / (numbers + norms[rows]))
    return postings
