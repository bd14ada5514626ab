"""Looking: what is visible in a clip of an episode, by a model that gets frames of it.

Frames are spread over the real length of the clip, and the prompt states how many there are. A cache keeps looks for
further questions and runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from evqa import media, prompts
from evqa.agents import frame_images
from evqa.agents.episode_clips import FPS, ClipFrame, EpisodeClips, read_frames
from evqa.agents.looking_cache import Look, LookingCache, look_key
from evqa.agents.transcript import Transcript
from evqa.masks import decode
from evqa.models.base import Model, ModelError
from evqa.models.cached_replies import KEPT_FINISHES
from evqa.models.messages import ImagePart, Message, Reply, VideoMasks, VideoPart
from evqa.parsing import replies
from evqa.schema import Box, ClipRef, FrameRef, Spans, Track, Tube

VISION = "vision"
"""Role of the model that looks at frames."""

MAX_BOX_LINES = 200
"""Boxes that a prompt lists."""

NOT_KEPT = "The look failed: the looking cache has no look at this clip with this question."

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
    reply: Reply | None = None
    """The reply of the model, with masks in frames of the clip; None = there is none."""
    prompt: str = ""
    """Text of the prompt."""
    seconds: tuple[float, ...] = ()
    """Times of the frames in the clip."""


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


class ModelLooker(Looker, Protocol):
    """Looker that asks a model."""

    @property
    def model(self) -> Model:
        """The model."""
        ...

    def key(self, clip: ClipRef, boxes: Sequence[str]) -> str:
        """Digest of what decides a reply beside clip, query and model."""
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
        text = _prompt(clip, frames, query, boxes)
        message = Message("user", (*images, text))
        reply = self.transcript.ask(self.model, message, VISION)
        if isinstance(reply, ModelError):
            return Sight(f"The look failed, nothing was seen: {reply}", ok=False)
        sight = _word_sight(self.transcript, message, reply, self.model.name)
        return sight._replace(prompt=text, seconds=tuple(frame.second for frame in frames))

    def key(self, clip: ClipRef, boxes: Sequence[str]) -> str:
        """Digest of what decides a reply; see `ModelLooker`."""
        plan = {"frames": self._limit(), "side": self.image_side}
        return look_key(plan=plan, settings=dict(self.model.settings), boxes=list(boxes), clip=_content(clip))

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
        is_trained = self.model.capabilities.reply_format == "evidence"
        instruction = [prompts.TRAINED_INSTRUCTION] if is_trained else []
        text = "\n".join([*_box_text(boxes), query, *instruction])
        path = episode.refs[place].path
        if path.is_dir():
            media.set_folder_fps(path, FPS)
        message = Message("user", (VideoPart(path), text))
        reply = self.transcript.ask(self.model, message, VISION)
        if isinstance(reply, ModelError):
            return Sight(f"The look failed, nothing was seen: {reply}", ok=False)
        return _evidence_sight(self.transcript, episode, place, message, reply, self.model.name)._replace(prompt=text)

    def key(self, clip: ClipRef, boxes: Sequence[str]) -> str:
        """Digest of what decides a reply; see `ModelLooker`."""
        return look_key(settings=dict(self.model.settings), boxes=list(boxes), clip=_content(clip))


@dataclass(frozen=True)
class CachedLooker:
    """Looker that takes looks from a cache; those that it lacks come from another looker, and are kept."""

    cache: LookingCache
    transcript: Transcript
    looker: ModelLooker | None
    """None = looks that the cache lacks fail, and those of any model count."""

    def look(self, episode: EpisodeClips, place: int, query: str, boxes: Sequence[str] = ()) -> Sight:
        """What the cache has, else what the other looker sees; see `Looker`. Either is a turn of the role vision."""
        clip = episode.refs[place]
        if self.looker is None:
            look = self.cache.any_look(clip.id, query)
            return Sight(NOT_KEPT, ok=False) if look is None else self._repeated(look, episode, place)
        model, key = self.looker.model.name, self.looker.key(clip, boxes)
        with self.cache.entry(clip.id, query, model, key) as look:
            if look is not None:
                return self._repeated(look, episode, place)
            sight = self.looker.look(episode, place, query, boxes)
            if sight.ok and sight.reply is not None and sight.reply.finish in KEPT_FINISHES:
                self.cache.add(
                    _cache_look(sight, sight.reply, Look(clip=clip.id, query=query, text="", model=model, key=key))
                )
        return sight

    def _repeated(self, look: Look, episode: EpisodeClips, place: int) -> Sight:
        """The look as if its model had just replied; its frames are not read again."""
        path, text = episode.refs[place].path, look.prompt or look.query
        refs = (episode.frame_ref(place, second) for second in look.seconds)
        frames = tuple(ImagePart(path=path, ref=ref) for ref in refs)
        if look.tracks is None:
            message = Message("user", (*frames, text))
            return _word_sight(self.transcript, message, look.reply(), look.model or self.cache.path.name)
        message = Message("user", (VideoPart(path), text))
        return _evidence_sight(self.transcript, episode, place, message, look.reply(), look.model)


def _word_sight(transcript: Transcript, message: Message, reply: Reply, model: str) -> Sight:
    """Record a reply in words and return it as a sight."""
    transcript.add_turn([message], reply, agent=VISION, model=model)
    refs = tuple(part.ref for part in message.parts if isinstance(part, ImagePart) and part.ref is not None)
    if not reply.text.strip():
        return Sight("The look failed: the reply was empty.", ok=False, frames=refs)
    return Sight(reply.text.strip(), ok=True, frames=refs, reply=reply)


def _evidence_sight(
    transcript: Transcript, episode: EpisodeClips, place: int, message: Message, reply: Reply, model: str
) -> Sight:
    """Record a reply with evidence and return it as a sight, with the evidence moved to the sample's video."""
    transcript.add_turn([message], reply, agent=VISION, model=model, tracks=())
    if reply.masks is not None:
        transcript.record_masks(reply.masks)
    masks = moved_masks(reply.masks, episode, place)
    local = replies.parse(reply.text, ("spans",), ()).spans or ()
    spans = tuple(moved for span in local for moved in episode.span_of(place, span.start, span.end))
    return Sight(reply.text.strip() or "(no words)", ok=True, spans=spans, masks=masks, reply=reply)


def _cache_look(sight: Sight, reply: Reply, look: Look) -> Look:
    """A look for the cache."""
    masks = reply.masks
    tracks = None if sight.seconds else (masks.tracks if masks else ())
    look = look.replace(text=reply.text, prompt=sight.prompt, seconds=sight.seconds, tracks=tracks, finish=reply.finish)
    if masks is None or sight.seconds:
        return look
    return look.replace(size=masks.size, num_frames=masks.num_frames, mask_frames=masks.frames)


def _content(clip: ClipRef) -> list[float]:
    """Size and time of a clip, by which another one with its id is told apart."""
    if clip.path.is_dir():
        size = sum(1 for _ in clip.path.iterdir())
    else:
        size = clip.path.stat().st_size if clip.path.is_file() else 0
    return [size, round(clip.start, 3), round(clip.duration, 3)]


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
    lines += _box_text(boxes)
    return "\n".join([*lines, f"Describe what they show with regard to this question: {query}"])


def _box_text(boxes: Sequence[str]) -> list[str]:
    """Lines of a prompt that state boxes."""
    title = "Objects in the clip with their boxes (left, top, width, height in pixels):"
    return [title, *boxes[:MAX_BOX_LINES]] if boxes else []
