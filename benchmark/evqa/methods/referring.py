"""Method of referring segmentation: a text names, describes or asks for objects, and the reply is their masks."""

from __future__ import annotations

from evqa import media, prompts
from evqa.methods.chat_session import ChatSession
from evqa.models.base import Models
from evqa.schema import Prediction, Sample


def refer(models: Models, sample: Sample, *, times: bool = True) -> Prediction:
    """Masks of the objects that a text refers to; referring expressions from models that predict no masks."""
    kind = "image" if sample.video.suffix.lower() in media.IMAGE_SUFFIXES else "video"
    with ChatSession(models, sample, times=times) as session:
        if models.main.capabilities.reply_format == "evidence":
            session.ask(prompts.referring_prompt(sample, kind), ("masks",))
        else:
            clock = prompts.clock_lines(*session.clock()) if kind == "video" else ""
            request = prompts.referring_request(sample, kind)
            session.ask("\n\n".join(part for part in (clock, request) if part), ("expressions",), is_json=True)
    return session.prediction()
