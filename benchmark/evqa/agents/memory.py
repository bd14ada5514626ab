"""Image memory of an agent: which images of a conversation a request still contains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from evqa.models.frame_policy import time_mark
from evqa.models.messages import ImagePart, Message, Part

FORGOTTEN = "(image no longer shown)"
"""Follows the label of an image that a request leaves out."""


def without_old_images(
    messages: Sequence[Message], *, keep_rounds: int | None = None, max_images: int | None = None
) -> list[Message]:
    """The conversation with the images of older rounds replaced by their labels.

    A round is what follows one reply of the model; images before the first reply are kept by `keep_rounds`.

    Args:
        messages: the conversation.
        keep_rounds: latest rounds with images whose images stay; None = all.
        max_images: most images of a request; the oldest are replaced first; None = no limit.
    """
    images_to_keep = _kept_images(messages, keep_rounds)
    if max_images is not None and len(images_to_keep) > max_images:
        images_to_keep = set(sorted(images_to_keep)[len(images_to_keep) - max_images :])
    visible: list[Message] = []
    for place, message in enumerate(messages):
        parts = tuple(
            part if not isinstance(part, ImagePart) or (place, position) in images_to_keep else _label(part)
            for position, part in enumerate(message.parts)
        )
        visible.append(message if parts == message.parts else replace(message, parts=parts))
    return visible


def _kept_images(messages: Sequence[Message], keep_rounds: int | None) -> set[tuple[int, int]]:
    """(message, part) of the images of the opening and of the latest rounds."""
    rounds = list(accumulate((message.role == "assistant" for message in messages), initial=0))[1:]
    images = [
        (place, position)
        for place, message in enumerate(messages)
        for position, part in enumerate(message.parts)
        if isinstance(part, ImagePart)
    ]
    with_images = sorted({rounds[place] for place, _ in images} - {0})
    latest = set(with_images if keep_rounds is None else with_images[max(0, len(with_images) - keep_rounds) :]) | {0}
    return {(place, position) for place, position in images if rounds[place] in latest}


def _label(image: ImagePart) -> Part:
    mark = image.label or ("" if image.second is None else time_mark(image.second))
    return f"{mark} {FORGOTTEN}".strip()
