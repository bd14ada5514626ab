"""Promptable video segmentation by SAM 2.1 from points, boxes and masks: the function behind `evqa track`.

Frames are read, tracked and written one at a time, so memory does not depend on the length of the video.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from evqa import media, threads
from evqa.files import jsonl
from evqa.hub import checkpoints
from evqa.models import visual_prompts
from evqa.report.evidence_files import EvidenceDrawing
from evqa.report.overlay import PromptMark
from evqa.schema import Prediction, Track
from unipixel.inference import mask_frames
from unipixel.inference.video_segmentation import SegmentationRequest, segment_video
from unipixel.model import devices
from unipixel.model.sam2 import weights as sam2_weights
from unipixel.model.sam2.prompts import BACKGROUND, OBJECT, PointPrompt, Prompt, box_prompt

NOT = "not:"
"""Prefix of a negative point."""


@dataclass(frozen=True, kw_only=True)
class TrackingResult:
    """Tracks of a video, and paths of the output files."""

    prediction: Prediction
    record: Path
    overlay: Path
    sheet: Path

    def text(self) -> str:
        """Return the result as text."""
        tracks = self.prediction.tracks or ()
        lines = [
            f"object {number}: in {len(track.masks)} of {self.prediction.num_frames} frames, score {track.score:.2f}"
            for number, track in enumerate(tracks, start=1)
        ]
        return "\n".join([*lines, f"overlay: {self.overlay}", f"sheet:   {self.sheet}", f"record:  {self.record}"])


def track(  # noqa: PLR0913  (each is an option of the command)
    path: Path,
    *,
    points: Sequence[str] = (),
    boxes: Sequence[str] = (),
    mask_files: Sequence[Path] = (),
    frame: int = 0,
    weights: str = "sam2.1-tiny",
    side: int = sam2_weights.OFFICIAL_SIDE,
    device: str = "auto",
    out: Path,
) -> TrackingResult:
    """Track one object for each point, box and mask from `frame` in both directions, and write the result to `out`.

    Args:
        path: a video file, or a folder of frames.
        points: clicks "x,y" in pixels; several for one object separated by spaces, "not:x,y" = negative click.
        boxes: "x0,y0,x1,y1" in pixels.
        mask_files: images of the frame's size, non-zero = the object.
        frame: index of the frame with the prompts.
        weights: checkpoint name (sam2.1-tiny, -small, -base-plus, -large), file or folder.
        side: side of the square to which frames are resized, in pixels.
        device: "auto" = a GPU if there is one.
        out: folder for prediction.jsonl, overlay.mp4 and sheet.png.
    """
    video = media.probe_video(path)
    if not 0 <= frame < video.num_frames:
        raise ValueError(f"{path} has frames 0 to {video.num_frames - 1}, got frame {frame}")
    if side % 32 or side < 32:
        raise ValueError(f"the side is a multiple of 32 pixels, got {side}")
    signs = prompts_of(video, points, boxes, mask_files)
    place = devices.select_device(device)
    threads.set_num_threads()
    tracker = sam2_weights.load_tracker(checkpoints.locate_weights(weights), side)[1].eval().to(place)  # type: ignore[arg-type]
    planned = mask_frames.plan_mask_frames(video, prompt_frame=frame)
    prediction = _prediction(video, segment_video(tracker, SegmentationRequest(video, planned, signs)))
    try:
        marks = prompt_marks(video, points, boxes, float(video.times[frame]))
        return _write_files(prediction, video, marks, out)
    except OSError as error:
        raise ValueError(f"cannot write to {out}: {error.strerror or error}; choose another with --out") from error


def prompts_of(
    video: media.Video, points: Sequence[str], boxes: Sequence[str], mask_files: Sequence[Path]
) -> list[Prompt]:
    """Return the prompts, in the order points, boxes, masks. `ValueError`: a prompt is invalid, or there is none."""
    signs: list[Prompt] = [_clicks(text, video) for text in points]
    signs += [_box(text, video) for text in boxes]
    signs += [torch.from_numpy(visual_prompts.mask(file, video)) for file in mask_files]
    if not signs:
        raise ValueError("nothing to track: give --point X,Y, --box X0,Y0,X1,Y1 or --mask FILE")
    return signs


def prompt_marks(video: media.Video, points: Sequence[str], boxes: Sequence[str], second: float) -> list[PromptMark]:
    """Return the marks for points and boxes in drawings, all at the same time."""
    marks = [
        PromptMark(
            at=visual_prompts.point(word.removeprefix(NOT), video), second=second, is_negative=word.startswith(NOT)
        )
        for text in points
        for word in text.split()
    ]
    return [*marks, *(PromptMark(at=visual_prompts.box(text, video), second=second) for text in boxes)]


def _clicks(text: str, video: media.Video) -> PointPrompt:
    words = text.split()
    places = [visual_prompts.point(word.removeprefix(NOT), video) for word in words]
    labels = [BACKGROUND if word.startswith(NOT) else OBJECT for word in words]
    if OBJECT not in labels:
        raise ValueError(f"a point says where an object is, 'x,y', and may go on with '{NOT}x,y'; got {text!r}")
    return PointPrompt(tuple((x / video.width, y / video.height) for x, y in places), tuple(labels))


def _box(text: str, video: media.Video) -> PointPrompt:
    x0, y0, x1, y1 = visual_prompts.box(text, video)
    return box_prompt(x0 / video.width, y0 / video.height, x1 / video.width, y1 / video.height)


def _prediction(video: media.Video, tracks: Sequence[Track]) -> Prediction:
    return Prediction(
        sample_id=re.sub(r"[^\w.-]", "_", video.path.stem).lstrip(".")[:200] or "video",
        status="ok",
        tracks=tuple(tracks),
        mask_size=(video.height, video.width),
        num_frames=video.num_frames,
    )


def _write_files(prediction: Prediction, video: media.Video, marks: Sequence[PromptMark], out: Path) -> TrackingResult:
    out.mkdir(parents=True, exist_ok=True)
    record, film, sheet = out / "prediction.jsonl", out / "overlay.mp4", out / "sheet.png"
    jsonl.write_records(record, [prediction])
    title = f"{len(prediction.tracks or ())} object(s) of {video.path.name}"
    drawing = EvidenceDrawing(video=video, prediction=prediction, caption=title, prompts=marks)
    drawing.write_video(film)
    drawing.write_sheet(sheet)
    return TrackingResult(prediction=prediction, record=record, overlay=film, sheet=sheet)
