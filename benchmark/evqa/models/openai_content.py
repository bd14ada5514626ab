"""A message in the form of OpenAI's chat completions, which vLLM's engine takes too."""

from __future__ import annotations

from collections.abc import Sequence

from evqa.models.frame_policy import FramePolicy, Jpeg, VideoCache, cache_size, jpeg_of, jpegs, time_mark
from evqa.models.messages import ImagePart, Message, Part

Json = dict[str, object]


class OpenAIContent:
    """Writes messages; a clip becomes frames, each after its time, as data URLs."""

    def __init__(self, policy: FramePolicy, quality: int, threads: int) -> None:
        """`quality` of the JPEG files, 1 to 95; `threads` that ask at once."""
        self._policy, self._quality = policy, quality
        self._frames: VideoCache[tuple[Jpeg, ...]] = VideoCache(
            lambda path: jpegs(path, policy, quality), cache_size(threads)
        )

    def messages(self, messages: Sequence[Message]) -> list[Json]:
        """A conversation. `ValueError`: a clip or a picture cannot be read."""
        return [{"role": one.role, "content": self._content(one)} for one in messages]

    def _content(self, message: Message) -> str | list[Json]:
        texts = [part for part in message.parts if isinstance(part, str)]
        if len(texts) == len(message.parts):
            return "\n".join(texts)
        return [piece for part in message.parts for piece in self._pieces(part)]

    def _pieces(self, part: Part) -> list[Json]:
        if isinstance(part, str):
            return [{"type": "text", "text": part}]
        if isinstance(part, ImagePart):
            return [self._picture(jpeg_of(part, self._policy, self._quality))]
        pieces: list[Json] = []
        for frame in self._frames.get(part.require_no_prompts()):
            if self._policy.time_marks:
                pieces.append({"type": "text", "text": time_mark(frame.second)})
            pieces.append(self._picture(frame))
        return pieces

    def _picture(self, picture: Jpeg) -> Json:
        return {"type": "image_url", "image_url": {"url": picture.data_url}}
