"""Prompt and response templates of training, one of which is sampled per turn.

Their number per task is that of UniPixel; the texts are our own. `{}` is the object or the question. The first template
of each task is also used at inference.
"""

from __future__ import annotations

from evqa.prompts import REFERRING, TRAINED_INSTRUCTION

EVIDENCE = (
    TRAINED_INSTRUCTION,
    "Which is right? Give the answer, the times [[start1, end1], ...] that show it, and masks of what it is seen by.",
    "Reply with the option, its evidence in time as [[start1, end1], ...], and its evidence in space as masks.",
    "Say the answer, then when it can be seen, [[start1, end1], ...], and segment the objects that prove it.",
    "Choose an answer and back it: stretches of time [[start1, end1], ...] in seconds, and masks of the objects.",
)
"""Requests for an answer with evidence, after the question."""

QUERY = (
    REFERRING["query"],
    "Could you segment the {} in this {media}?",
    "Segment the {} in the {media}.",
    "Find the {} in the {media} and segment it.",
    "Mark all pixels of the {} in this {media}.",
    "Where in this {media} is the {}? Answer with its segmentation mask.",
    "What does the {} look like? Show it by a segmentation mask.",
)
"""Requests for the object of a noun phrase; `{media}` is image or video."""

SENTENCE = (
    REFERRING["sentence"],
    "{} Answer with the segmentation mask.",
    "{} Show it by a segmentation mask.",
    "{} Only the segmentation is needed.",
    "{} Segment what is meant.",
)
"""Requests for the object of a sentence."""

QUESTION = (
    REFERRING["question"],
    "{} Give the answer together with its segmentation mask.",
    "{} Answer, and show the answer by a segmentation mask.",
    "{} Say what it is and segment it.",
    "{} A short answer and the mask of the object, please.",
)
"""Requests for an answer as text with its mask."""

EXPLANATORY = (
    REFERRING["explanatory"],
    "{} Answer with the segmentation mask and give your reason.",
    "{} Show it by a segmentation mask and explain the choice.",
    "{} Segment what is meant, and answer the question in words.",
    "{} Give the mask first, then an explanation.",
)
"""Requests for a mask with an explanation."""

DESCRIPTION = (
    REFERRING["description"],
    "Segment what is described here: {}",
    "Read the description and answer with the mask of the object: {}",
    "Here is a description: {} Which pixels show the object?",
    "Find the object by its description: {}",
)
"""Requests for the object of a description."""

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
"""Requests for a short description of a marked object."""

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
"""Requests for a detailed description of a marked object."""

MEMORY = (
    "{} First find the objects that are pointed at, by their numbers.",
    "{} Show where each of the numbered objects is.",
    "{} Give the mask of each object with its number.",
    "{} Which pixels are the numbered objects? Do not answer yet.",
    "{} Segment every object that has a number.",
    "{} Locate the numbered objects through the whole clip.",
)
"""Requests for masks of marked objects, before a question about them."""

MASK_REPLIES = (
    "The target is <|seg|>.",
    "It is <|seg|>.",
    "Sure, this is its mask: <|seg|>.",
    "The segmentation is <|seg|>.",
    "<|seg|>.",
)
"""Responses with one mask."""

TABLES: dict[str, tuple[str, ...]] = {
    "query": QUERY,
    "sentence": SENTENCE,
    "question": QUESTION,
    "explanatory": EXPLANATORY,
    "description": DESCRIPTION,
}
"""Task type -> prompt templates."""
