"""Looking: what is visible in a clip of an episode, by a model that gets frames of it.

Frames are spread over the real length of the clip, and the prompt states how many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from evqa import prompts
from evqa.agents import frame_images
from evqa.agents.episode_clips import ClipFrame, EpisodeClips, read_frames
from evqa.agents.transcript import Transcript
from evqa.masks import decode
from evqa.models.base import Model, ModelError
from evqa.models.messages import ImagePart, Message, VideoMasks, VideoPart
from evqa.parsing import replies
from evqa.schema import Box, ClipRef, FrameRef, Spans, Track, Tube

VISION = "vision"
"""Role of the model that looks at frames."""

MAX_BOX_LINES = 200
"""Boxes that a prompt lists."""

BoxLines = Mapping[str, Sequence[str]]
"""Clip -> a line per box, for prompts."""


class Sight(NamedTuple):
    """Result of a look."""

    text: str
    """Description, or why the look failed."""
    ok: bool
    frames: tuple[FrameRef, ...] = ()
    """Frames that were shown."""
    spans: Spans = ()
    """Time segments that a grounded model cites, in seconds of the sample's video."""
    masks: VideoMasks | None = None
    """Masks of a grounded model, in frames of the sample's video."""


class Looker(Protocol):
    """Says what is visible in a clip."""

    def look(self, episode: EpisodeClips, place: int, query: str, boxes: Sequence[str] = ()) -> Sight:
        """Look at frames of a clip.

        Args:
            episode: clips of the episode.
            place: index of the clip.
            query: what is asked.
            boxes: lines of objects with their boxes; () = none are stated.
        """
        ...


@dataclass(frozen=True)
class FrameLooker:
    """Looker that sends frames to a model."""

    model: Model
    transcript: Transcript
    num_frames: int
    image_side: int

    def look(self, episode: EpisodeClips, place: int, query: str, boxes: Sequence[str] = ()) -> Sight:
        """What the model describes; see `Looker`. Every call is a turn of the role vision."""
        clip = episode.refs[place]
        try:
            frames = read_frames(episode.sample, clip, self._limit())
        except ValueError as error:
            return Sight(f"The look failed: {error}", ok=False)
        images = [self._image(episode, place, frame) for frame in frames]
        message = Message("user", (*images, _prompt(clip, frames, query, boxes)))
        reply = self.transcript.ask(self.model, message, VISION)
        if isinstance(reply, ModelError):
            return Sight(f"The look failed, nothing was seen: {reply}", ok=False)
        self.transcript.add_turn([message], reply, agent=VISION, model=self.model.name)
        refs = tuple(image.ref for image in images if image.ref is not None)
        if not reply.text.strip():
            return Sight("The look failed: the reply was empty.", ok=False, frames=refs)
        return Sight(reply.text.strip(), ok=True, frames=refs)

    def _limit(self) -> int:
        limit = self.model.capabilities.max_images
        return self.num_frames if limit is None else max(min(limit, self.num_frames), 1)

    def _image(self, episode: EpisodeClips, place: int, frame: ClipFrame) -> ImagePart:
        return ImagePart(
            image=frame_images.fit(frame.image, self.image_side),
            label=f"frame {frame.number} at {frame.second:.1f} s of the clip",
            ref=episode.frame_ref(place, frame.second),
        )


@dataclass(frozen=True)
class GroundedLooker:
    """Looker that asks a model which predicts time segments and masks; both become evidence of the answer."""

    model: Model
    transcript: Transcript

    def look(self, episode: EpisodeClips, place: int, query: str, boxes: Sequence[str] = ()) -> Sight:
        """What the model replies, with its evidence moved to the sample's video; see `Looker`."""
        clip = episode.refs[place]
        is_trained = self.model.capabilities.reply_format == "evidence"
        instruction = [prompts.TRAINED_INSTRUCTION] if is_trained else []
        words = "\n".join([*boxes[:MAX_BOX_LINES], query, *instruction])
        message = Message("user", (VideoPart(clip.path), words))
        reply = self.transcript.ask(self.model, message, VISION)
        if isinstance(reply, ModelError):
            return Sight(f"The look failed, nothing was seen: {reply}", ok=False)
        masks = moved_masks(reply.masks, episode, place)
        self.transcript.add_turn(
            [message], reply, agent=VISION, model=self.model.name, tracks=masks.tracks if masks else ()
        )
        local = replies.parse(reply.text, ("spans",), ()).spans or ()
        spans = tuple(moved for span in local for moved in episode.span_of(place, span.start, span.end))
        return Sight(reply.text.strip() or "(no words)", ok=True, spans=spans, masks=masks)


def moved_masks(masks: VideoMasks | None, episode: EpisodeClips, place: int) -> VideoMasks | None:
    """Masks of a clip as masks of the sample's video; None = there are none, or its video is another clip."""
    sample, clip = episode.sample, episode.refs[place]
    if masks is None or sample.clip is not None:
        return masks if sample.clip == clip else None
    fps = masks.num_frames / clip.duration
    indices = {index: episode.frame_ref(place, index / fps).index for index in range(masks.num_frames)}
    tracks = tuple(
        Track(label=track.label, score=track.score, masks={indices[index]: mask for index, mask in track.masks.items()})
        for track in masks.tracks
    )
    total = sample.num_frames or max(indices.values()) + 1
    frames = tuple(sorted(indices[index] for index in masks.frames or indices))
    return VideoMasks(tracks, masks.size, total, frames)


def enclosing_boxes(tracks: Sequence[Track]) -> Tube:
    """Box that encloses all masks of a frame, by frame index; frames without a pixel have none."""
    corners: dict[int, tuple[float, float, float, float]] = {}
    for track in tracks:
        for index, mask in track.masks.items():
            pixels = decode(mask)
            rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
            if len(rows):
                box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
                hull = corners.get(index, box)
                corners[index] = (*map(min, box[:2], hull[:2]), *map(max, box[2:], hull[2:]))  # type: ignore[assignment]
    return {index: Box(*corners[index]) for index in sorted(corners)}


def _prompt(clip: ClipRef, frames: Sequence[ClipFrame], query: str, boxes: Sequence[str]) -> str:
    lines = [f"The {len(frames)} images are frames of one clip of {clip.duration:.1f} seconds, in order of time."]
    if boxes:
        lines += ["Objects in the clip with their boxes (left, top, width, height in pixels):", *boxes[:MAX_BOX_LINES]]
    return "\n".join([*lines, f"Describe what they show with regard to this question: {query}"])
