"""A conversation about one sample: what was asked and said so far, and the prediction that comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from evqa import media
from evqa.models.base import Model, ModelError, RunAborted, frame_times
from evqa.models.messages import ImagePart, Message, Part, Reply, VideoMasks, VideoPart
from evqa.parsing import replies
from evqa.parsing.replies import ParsedReply
from evqa.schema import LETTERS, AnswerField, Prediction, Sample, Turn


class ChatSession:
    """Asks a model in turns. The video stands before the first prompt of each thread of turns."""

    def __init__(self, model: Model, sample: Sample, *, times: bool) -> None:
        """`times`: whether the prompts tell the duration and, where the model does not itself, the frames' seconds."""
        self.sample = sample
        media.set_folder_fps(sample.video, sample.fps)
        self.turns: list[Turn] = []
        self.masks: VideoMasks | None = None
        """Of the last reply that had any."""
        self._model, self._tells_times = model, times
        self._thread: list[Message] = []
        self._started = time.perf_counter()

    def clock(self) -> tuple[float | None, Sequence[float] | None]:
        """(duration, seconds of the frames) to tell in a prompt. `ValueError`: the video cannot be read."""
        video = media.probe_video(self.sample.video)
        if not self._tells_times:
            return None, None
        return video.duration, frame_times(self._model, VideoPart(self.sample.video))

    def ask(
        self, prompt: str, asks: tuple[AnswerField, ...], *, stills: Sequence[ImagePart] = (), is_json: bool = False
    ) -> ParsedReply:
        """Ask as the next turn of the thread; what the reply says. Raises `ModelError` where there is none."""
        clip: tuple[Part, ...] = () if self._thread else (VideoPart(self.sample.video),)
        message = Message("user", (*clip, prompt, *stills), asks if is_json else ())
        try:
            reply = self._model.generate((*self._thread, message))
        except (ModelError, RunAborted) as error:
            if error.usage is not None:
                finish = "error" if error.partial else "unknown"
                turn = Turn(answer_fields=asks, prompt=prompt, reply=error.partial, usage=error.usage, finish=finish)
                self.turns.append(turn)
            raise
        self._thread += [message, Message("assistant", (reply.text,))]
        return self._record_reply(prompt, asks, reply)

    def rewind(self, num_turns: int) -> None:
        """Forget all but the first turns of the thread; 0 = begin a new one."""
        self._thread = self._thread[: 2 * num_turns]

    def _record_reply(self, prompt: str, asks: tuple[AnswerField, ...], reply: Reply) -> ParsedReply:
        turn = Turn(
            answer_fields=asks,
            prompt=prompt,
            reply=reply.text,
            usage=reply.usage,
            finish=reply.finish,
            option_logprobs=_letters(reply, len(self.sample.options)) if "answer" in asks else None,
        )
        self.turns.append(turn)
        self.masks = reply.masks or self.masks
        return replies.parse_for_sample(reply.text, asks, self.sample)

    def seconds(self) -> float:
        """Wall time since the beginning."""
        return round(time.perf_counter() - self._started, 3)

    def failed(self, error: ModelError | RunAborted | ValueError) -> Prediction:
        """The record of a failure, with the turns that came before it."""
        reason = f"{type(error).__name__}: {error}"
        return Prediction(
            sample_id=self.sample.id, status="failed", error=reason, turns=tuple(self.turns), seconds=self.seconds()
        )

    def prediction(self, said: ParsedReply) -> Prediction:
        """The record of what was said and drawn."""
        masks = self.masks
        return Prediction(
            sample_id=self.sample.id,
            status="ok",
            turns=tuple(self.turns),
            answer=said.answer,
            spans=said.spans,
            expressions=said.expressions,
            tracks=masks.tracks if masks else None,
            mask_size=masks.size if masks else None,
            num_frames=masks.num_frames if masks else None,
            mask_frames=masks.frames if masks else None,
            seconds=self.seconds(),
        )


def _letters(reply: Reply, num_options: int) -> dict[str, float] | None:
    """What the model gave each option's letter; None where it does not say or nothing is to choose."""
    if reply.option_logprobs is None or not num_options:
        return None
    return {
        letter: reply.option_logprobs[letter] for letter in LETTERS[:num_options] if letter in reply.option_logprobs
    }


def run_session(model: Model, sample: Sample, talk: Callable[[ChatSession], Prediction], *, times: bool) -> Prediction:
    """What a conversation gives; no reply, or a video that cannot be read, is a failed prediction."""
    conversation = ChatSession(model, sample, times=times)
    try:
        return talk(conversation)
    except (ModelError, ValueError) as error:
        return conversation.failed(error)
    except RunAborted as stop:
        if conversation.turns:
            stop.prediction = conversation.failed(stop)
        raise
