"""BM25 against its formula, and against bm25s.

Values of bm25s 0.3.16 (`pip install bm25s`), computed with

    index = bm25s.BM25(method="lucene", k1=1.2, b=0.75, dtype="float64"); index.index(DOCS); index.get_scores(QUERY)

on lists of words (`[text.split() for text in TEXTS]`).
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evqa.retrieval import bm25
from evqa.retrieval.bm25 import Bm25, TextHit

TEXTS = (
    "who moved my cup",
    "the cup be red",
    "i brought the chair",
    "look at the kite",
    "the red red kite and the cup",
    "suit up",
)
OF_BM25S = {
    "red cup": [0.32030830894637036, 0.7961028640208427, 0, 0, 0.7866952170320632, 0],
    "kite": [0, 0, 0, 0.47579455507447244, 0.3661519975750918, 0],
    "red red suit": [0, 0.9515891101489449, 0, 0, 1.0803981292561995, 0.8894024485838042],
    "absent": [0, 0, 0, 0, 0, 0],
}


@pytest.mark.parametrize("query", OF_BM25S)
def test_scores_equal_those_of_bm25s(query):
    np.testing.assert_allclose(Bm25(TEXTS).scores(query), OF_BM25S[query], rtol=1e-12)


def formula(texts, query, k1, b):
    """The definition, one text and one word at a time."""
    documents = [text.split() for text in texts]
    average = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in query.split():
            number = sum(word in words for words in documents)
            frequency = document.count(word)
            norm = k1 * (1 - b + b * len(document) / average)
            idf = math.log(1 + (len(documents) - number + 0.5) / (number + 0.5))
            score += idf * frequency / (frequency + norm) if frequency else 0
        scores.append(score)
    return scores


WORD = st.sampled_from(["red", "cup", "kite", "dog", "tree"])
TEXT = st.lists(WORD, min_size=1, max_size=8).map(" ".join)


@given(st.lists(TEXT, min_size=1, max_size=12), TEXT, st.floats(0, 3), st.floats(0, 1))
def test_scores_equal_the_formula(texts, query, k1, b):
    np.testing.assert_allclose(
        Bm25(texts, k1=k1, b=b).scores(query), formula(texts, query, k1, b), rtol=1e-9, atol=1e-12
    )


def test_hits_are_ranked_and_the_earlier_text_goes_first_among_equals():
    hits = Bm25(TEXTS).search("red cup", 2)
    assert [hit.row for hit in hits] == [1, 4]
    assert hits[0].score > hits[1].score > 0
    assert [hit.row for hit in Bm25(["a dog", "b dog", "c dog"]).search("dog", 2)] == [0, 1]
    assert Bm25(TEXTS).search("red cup", 9) == Bm25(TEXTS).search("cup red", 9)


@pytest.mark.parametrize("query", ["", "   ", "?!", "absent", "\0", "🙂"])
def test_a_query_without_a_known_word_has_no_hits(query):
    assert Bm25(TEXTS).search(query, 5) == []


def test_no_texts_and_texts_without_words():
    assert Bm25([]).search("dog", 3) == []
    assert Bm25(["", "...", "♪"]).search("dog", 3) == []
    assert Bm25(["", "a dog"]).search("dog", 3) == [TextHit(1, pytest.approx(math.log(2) / (1 + 1.2 * (0.25 + 1.5))))]


def test_stop_words_count_only_where_a_query_has_no_others():
    index = Bm25(["the end of it", "a dog of the house", "to be or not to be"])
    assert [hit.row for hit in index.search("where is the dog", 5)] == [1]
    assert index.search("to be or not to be", 5)[0].row == 2


def test_words_of_english_and_other_scripts():
    assert bm25.words("Penny's boxes, dishes; CITIES and don\u2019t") == [
        "penny",
        "box",
        "dish",
        "city",
        "and",
        "don't",
    ]
    assert bm25.words("glass bus news is 12:30") == ["glass", "bus", "new", "is", "12", "30"]
    assert bm25.words("Straße \ufb01ve naïve Привет") == ["strasse", "five", "naïve", "привет"]
    assert bm25.words("他们走了 cup") == ["他", "们", "走", "了", "cup"]


def test_only_allowed_texts_are_hits_with_the_statistics_of_all():
    index = Bm25(TEXTS)
    allowed = np.array([True, False, True, True, True, True])
    rows = index.search("red cup", 5, allowed=allowed)
    assert [hit.row for hit in rows] == [4, 0]
    assert rows[0].score == pytest.approx(OF_BM25S["red cup"][4])


@pytest.mark.parametrize("settings", [{"k1": -1}, {"k1": math.inf}, {"b": 1.5}, {"b": math.nan}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="k1"):
        Bm25(TEXTS, **settings)
    with pytest.raises(ValueError, match="at least 1"):
        Bm25(TEXTS).search("dog", 0)


def test_a_huge_query_is_bounded():
    assert Bm25(TEXTS).search("dog " * 3_000_000 + "kite", 1) == []
