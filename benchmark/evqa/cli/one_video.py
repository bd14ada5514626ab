"""Commands on one video: ask about it, follow objects in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from evqa.cli.arguments import Folder, ModelSettings, Name, Times
from evqa.cli.console import print_line
from evqa.models.options import ModelOptions


def ask(  # noqa: PLR0913  (each is an option of the command)
    video: Positional[Annotated[Path, arg(metavar="VIDEO")]],
    question: Positional[Annotated[str, arg(metavar="QUESTION")]],
    *,
    option: UseAppendAction[tuple[str, ...]] = (),
    point: UseAppendAction[tuple[str, ...]] = (),
    box: UseAppendAction[tuple[str, ...]] = (),
    mask: UseAppendAction[tuple[str, ...]] = (),
    one_pass: bool = False,
    model: str = "tiny",
    method: Name = None,
    times: Times = True,
    seed: int = 0,
    out: Folder = None,
    options: ModelSettings = ModelOptions(),  # noqa: B008  (frozen)
) -> int:
    """Ask one question about one video; see the answer, when it is seen, and the pixels that show it.

    The question calls objects that you point at [1], [2], ... in the order points, boxes, masks.

    Example: evqa ask clip.mp4 "Which shape glows?" --option circle --option square --model tiny

      evqa ask clip.mp4 "What does [1] hand to [2]?" --point 320,180@2.5 --box 40,60,200,300 --model unipixel-3b

    Args:
        video: a video file, or a folder of frames (frames a second in its fps.txt; 6 are assumed without).
        question: what to ask.
        option: something to choose from; repeat it for each. Without, the reply itself is the answer.
        point: x,y in pixels, and @SECOND where it is not in the first frame; repeat it for each object.
        box: x0,y0,x1,y1 in pixels, and @SECOND; repeat it for each object.
        mask: an image of the frame's size, non-zero = the object, and @SECOND; repeat it for each object.
        one_pass: tell the model points and boxes as they are, instead of following the objects there first.
        model: name of a model (evqa list models), a Hugging Face id, a folder with a checkpoint, or a .json file of
            replies.
        method: how the model is asked (evqa list methods); what its row says, where none is named.
        times: do not tell the model the duration of the video and the seconds of its frames, as published.
        seed: with --temperature our models start from it.
        out: folder for overlay.mp4, sheet.png and prediction.jsonl; outputs/ask/VIDEO where none is given.
        options: settings of the model in place of those of its row.
    """
    from evqa.ask import AskSettings
    from evqa.ask import ask as answer_to
    from evqa.files import roots
    from evqa.models.visual_prompts import VisualPrompts
    from evqa.runs.shards import file_name_of

    folder = out or roots.outputs("ask", file_name_of(video.stem))
    pointing = VisualPrompts(points=point, boxes=box, masks=mask, one_pass=one_pass)
    settings = AskSettings(method=method, times=times, seed=seed, overrides=options.overrides())
    answer = answer_to(video, question, option, model, folder, pointing=pointing, settings=settings)
    print_line(answer.text())
    return 1 if answer.prediction.status == "failed" else 0


def track(  # noqa: PLR0913  (each is an option of the command)
    video: Positional[Annotated[Path, arg(metavar="VIDEO")]],
    *,
    point: UseAppendAction[tuple[str, ...]] = (),
    box: UseAppendAction[tuple[str, ...]] = (),
    mask: UseAppendAction[tuple[Path, ...]] = (),
    frame: int = 0,
    weights: str = "sam2.1-tiny",
    side: int = 1024,
    device: str = "auto",
    out: Folder = None,
) -> int:
    """Follow objects that you point at through a video with SAM 2.1, forwards and backwards from one frame.

    Weights come by: bash scripts/download.sh sam2.1-tiny (-small, -base-plus, -large).

    Example: evqa track clip.mp4 --point 320,180 --box 40,60,200,300 --frame 12

    Args:
        video: a video file, or a folder of frames.
        point: x,y in pixels; repeat it for each object. "320,180 300,200 not:90,90" is three clicks for one.
        box: x0,y0,x1,y1 in pixels; repeat it for each object.
        mask: an image of the frame's size, non-zero = the object; repeat it for each object.
        frame: index of the frame that they are on.
        weights: name of a checkpoint, a .pt of Meta's, a .safetensors, or a folder with one.
        side: side in pixels of the square that the model sees; official weights were trained at 1024.
        device: cpu, cuda, or auto = a GPU where there is one.
        out: folder for overlay.mp4, sheet.png and prediction.jsonl; outputs/track/VIDEO where none is given.
    """
    from evqa import media
    from evqa.files import roots
    from evqa.hub import checkpoints
    from evqa.models import adapter
    from evqa.runs.shards import file_name_of

    media.probe_video(video)  # this and the next two: before torch is imported
    for file in mask:
        if not file.is_file():
            raise ValueError(f"no such file: {file}; --mask takes an image of the frame's size")
    checkpoints.locate_weights(weights)
    follow = adapter("unipixel.inference.track:track", needed_by="evqa track", extra="models")
    folder = out or roots.outputs("track", file_name_of(video.stem))
    found = follow(
        video,
        points=point,
        boxes=box,
        mask_files=mask,
        frame=frame,
        weights=weights,
        side=side,
        device=device,
        out=folder,
    )
    print_line(found.text())
    return 0
