"""Commands on one video: answer a question about it, track objects in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from evqa.agents.settings import AgentSettings
from evqa.cli.arguments import AgentOptions, Agents, CanaryChoice, ModelSettings, Times
from evqa.cli.console import print_line
from evqa.models.options import ModelOptions, Switch, option, parse_agents


def ask(  # noqa: PLR0913  (each is an option of the command)
    video: Positional[Annotated[Path, arg(metavar="VIDEO")]],
    question: Positional[Annotated[str, arg(metavar="QUESTION")]],
    *,
    choices: UseAppendAction[Annotated[tuple[str, ...], option("TEXT", name="option")]] = (),
    points: UseAppendAction[Annotated[tuple[str, ...], option("X,Y[@SECOND]", name="point")]] = (),
    boxes: UseAppendAction[Annotated[tuple[str, ...], option("X0,Y0,X1,Y1[@SECOND]", name="box")]] = (),
    masks: UseAppendAction[Annotated[tuple[str, ...], option("IMAGE[@SECOND]", name="mask")]] = (),
    direct_prompts: Switch = False,
    model: str = "tiny",
    method: Annotated[str | None, option("NAME", default="the model's own")] = None,
    times: Times = True,
    seed: int = 0,
    out: Annotated[Path | None, option("FOLDER", default="outputs/ask/VIDEO")] = None,
    agent: Agents = (),
    canary: CanaryChoice = "auto",
    agent_settings: AgentOptions = AgentSettings(),  # noqa: B008  (frozen)
    options: ModelSettings = ModelOptions(),  # noqa: B008  (frozen)
) -> int:
    """Answer one question about one video, with segments and masks.

    Prompted objects are called [1], [2], ... in the question, in the order points, boxes, masks.

    Example: evqa ask clip.mp4 "Which shape glows?" --option circle --option square --model tiny

      evqa ask clip.mp4 "What does [1] hand to [2]?" --point 320,180@2.5 --box 40,60,200,300 --model unipixel-3b

    Args:
        video: video file, or folder of frames (frame rate in its fps.txt, else 6).
        question: question about the video.
        choices: answer option; without options the question is open-ended.
        points: point prompt in pixels, in the first frame or at a second.
        boxes: box prompt in pixels, in the first frame or at a second.
        masks: mask prompt: image of the frame's size, non-zero = the object, in the first frame or at a second.
        direct_prompts: give points and boxes to the model directly, without tracking the objects first.
        model: name of a model (evqa list models), a Hugging Face id, a checkpoint folder, or a .json file of responses.
        method: prompting method (evqa list methods).
        times: withhold the duration of the video and the timestamps of its frames from the model, as published.
        seed: random seed of sampling (with --temperature).
        out: folder for overlay.mp4, sheet.png and prediction.jsonl.
        agent: additional model of a method with several models: NAME=MODEL or NAME=MODEL,setting=value.
        canary: request before the first one with an image in a tool result, for methods with tools: ends the command if
            the model does not see it; auto = models behind an API, on = local models too.
        agent_settings: limits, frames and search of the methods agent, retrieve, inspected and uniform.
        options: settings of the model that replace those of its table entry (evqa list models).
    """
    from evqa import ask as asking
    from evqa.files import roots
    from evqa.models.visual_prompts import VisualPrompts
    from evqa.runs.shards import file_name_of

    folder = out or roots.outputs("ask", file_name_of(video.stem))
    prompts = VisualPrompts(points=points, boxes=boxes, masks=masks, one_pass=direct_prompts)
    settings = asking.AskSettings(
        method=method,
        times=times,
        seed=seed,
        overrides=options.overrides(),
        agents=parse_agents(agent),
        agent_settings=agent_settings,
        canary=canary,
    )
    answer = asking.ask(video, question, choices, model, folder, pointing=prompts, settings=settings)
    print_line(answer.text())
    return 1 if answer.prediction.status == "failed" else 0


def track(  # noqa: PLR0913  (each is an option of the command)
    video: Positional[Annotated[Path, arg(metavar="VIDEO")]],
    *,
    points: UseAppendAction[Annotated[tuple[str, ...], option("X,Y", name="point")]] = (),
    boxes: UseAppendAction[Annotated[tuple[str, ...], option("X0,Y0,X1,Y1", name="box")]] = (),
    masks: UseAppendAction[Annotated[tuple[Path, ...], option("IMAGE", name="mask")]] = (),
    frame: Annotated[int, option("N")] = 0,
    weights: Annotated[str, option("NAME")] = "sam2.1-tiny",
    image_size: Annotated[int, option("N")] = 1024,
    device: Annotated[str, option("NAME")] = "auto",
    out: Annotated[Path | None, option("FOLDER", default="outputs/track/VIDEO")] = None,
) -> int:
    """Track prompted objects through a video with SAM 2.1.

    Propagates forwards and backwards from one frame. Download weights with: evqa download sam2.1-tiny (-small,
    -base-plus, -large).

    Example: evqa track clip.mp4 --point 320,180 --box 40,60,200,300 --frame 12

    Args:
        video: video file, or folder of frames.
        points: point prompt of one object, in pixels; "320,180 300,200 not:90,90" = two positive points, one negative.
        boxes: box prompt of one object, in pixels.
        masks: mask prompt of one object: image of the frame's size, non-zero = the object.
        frame: index of the frame of the prompts.
        weights: name of a checkpoint, an original .pt file, a .safetensors file, or a folder with one.
        image_size: side of the model's square input in pixels; official weights were trained at 1024.
        device: cpu, cuda, or auto = a GPU if available.
        out: folder for overlay.mp4, sheet.png and prediction.jsonl.
    """
    from evqa import media
    from evqa.files import roots
    from evqa.hub import checkpoints
    from evqa.models import adapter
    from evqa.runs.shards import file_name_of

    media.probe_video(video)  # this and the next two: before torch is imported
    for file in masks:
        if not file.is_file():
            raise ValueError(f"no such file: {file}; --mask takes an image of the frame's size")
    checkpoints.locate_weights(weights)
    track_objects = adapter("unipixel.inference.track:track", needed_by="evqa track", extra="models")
    folder = out or roots.outputs("track", file_name_of(video.stem))
    result = track_objects(
        video,
        points=points,
        boxes=boxes,
        mask_files=masks,
        frame=frame,
        weights=weights,
        side=image_size,
        device=device,
        out=folder,
    )
    print_line(result.text())
    return 0
