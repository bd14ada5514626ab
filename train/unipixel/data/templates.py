"""How a mask is asked for and given in training: tables of phrasings, one of which is drawn for each turn.

As many per kind as UniPixel was trained with, in words of our own; `{}` is the object or the question. The first
of each kind of question is also the one to ask at test time.
"""

from __future__ import annotations

from evqa.prompts import TRAINED_INSTRUCTION

EVIDENCE = (
    TRAINED_INSTRUCTION,
    "Which is right? Give the answer, the times [[start1, end1], ...] that show it, and masks of what it is seen by.",
    "Reply with the option, its evidence in time as [[start1, end1], ...], and its evidence in space as masks.",
    "Say the answer, then when it can be seen, [[start1, end1], ...], and segment the objects that prove it.",
    "Choose an answer and back it: stretches of time [[start1, end1], ...] in seconds, and masks of the objects.",
)
"""Asks for an answer with its evidence; it comes after the question, and the reply has one form."""

QUERY = (
    "Please segment the {} in this {media}.",
    "Could you segment the {} in this {media}?",
    "Segment the {} in the {media}.",
    "Find the {} in the {media} and segment it.",
    "Mark all pixels of the {} in this {media}.",
    "Where in this {media} is the {}? Answer with its segmentation mask.",
    "What does the {} look like? Show it by a segmentation mask.",
)
"""Asks for what a noun phrase means; `{media}` is image or video."""

SENTENCE = (
    "{} Please provide the segmentation mask.",
    "{} Answer with the segmentation mask.",
    "{} Show it by a segmentation mask.",
    "{} Only the segmentation is needed.",
    "{} Segment what is meant.",
)
"""Asks for what a whole sentence means."""

QUESTION = (
    "{} Please answer the question and provide the segmentation mask.",
    "{} Give the answer together with its segmentation mask.",
    "{} Answer, and show the answer by a segmentation mask.",
    "{} Say what it is and segment it.",
    "{} A short answer and the mask of the object, please.",
)
"""Asks for an answer in words and its mask."""

EXPLANATORY = (
    "{} Please provide the segmentation mask and explain why.",
    "{} Answer with the segmentation mask and give your reason.",
    "{} Show it by a segmentation mask and explain the choice.",
    "{} Segment what is meant, and answer the question in words.",
    "{} Give the mask first, then an explanation.",
)
"""Asks for a mask with a reason."""

DESCRIPTION = (
    "Please segment the object that fits the description: {}",
    "Segment what is described here: {}",
    "Read the description and answer with the mask of the object: {}",
    "Here is a description: {} Which pixels show the object?",
    "Find the object by its description: {}",
)
"""Asks for what several sentences describe."""

POINTED = tuple(
    f"{opening} {ending}"
    for opening in ("What is", "Say what is", "Name what is", "In a few words, what is")
    for ending in (
        "at {}?",
        "shown at {}?",
        "to be seen at {}?",
        "pointed at by {}?",
        "under the mark {}?",
        "the object at {}?",
    )
)
"""Asks for a short description of what is pointed at."""

IN_DETAIL = tuple(
    f"{opening} {ending}"
    for opening in (
        "Describe {} in detail:",
        "Look closely at {} and say",
        "Tell all about {}:",
        "Explain",
        "Write down",
    )
    for ending in (
        "how does {} look, and what is around it?",
        "what can be seen of {}?",
        "which shape, colour and state has {}?",
        "what is {}, where is it, and what happens to it?",
        "what stands out about {}?",
        "all that the picture tells of {}.",
    )
)
"""Asks for a long description of a marked object."""

MEMORY = (
    "{} First find the objects that are pointed at, by their numbers.",
    "{} Show where each of the numbered objects is.",
    "{} Give the mask of each object with its number.",
    "{} Which pixels are the numbered objects? Do not answer yet.",
    "{} Segment every object that has a number.",
    "{} Locate the numbered objects through the whole clip.",
)
"""Asks to find pointed-at objects again, of which a question will follow."""

MASK_REPLIES = (
    "The target is <|seg|>.",
    "It is <|seg|>.",
    "Sure, this is its mask: <|seg|>.",
    "The segmentation is <|seg|>.",
    "<|seg|>.",
)
"""Gives one mask."""

TABLES: dict[str, tuple[str, ...]] = {
    "query": QUERY,
    "sentence": SENTENCE,
    "question": QUESTION,
    "explanatory": EXPLANATORY,
    "description": DESCRIPTION,
}
"""Form of a sample -> how it is asked."""

ARTICLES = ("the ", "an ", "a ")


def noun_phrase(words: str) -> str:
    """A query as it stands inside a sentence: small first letter, no article, no final dots."""
    words = words.strip().strip(".").strip()
    words = words[:1].lower() + words[1:]
    article = next((article for article in ARTICLES if words.startswith(article)), "")
    return words.removeprefix(article)


def fill_template(template: str, words: str, media: str) -> str:
    """A phrasing with its blanks filled in; braces in the words stay as they are."""
    return template.replace("{media}", media).replace("{}", words)
