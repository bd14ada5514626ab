"""Command that builds frame indices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from evqa.cli.console import plural, print_failures, print_line
from evqa.models.options import option

SourceName = Positional[Annotated[str, arg(metavar="DATA|VIDEO")]]


def index(  # noqa: PLR0913  (each is an option of the command)
    source: SourceName,
    *,
    encoder: Annotated[str, option("NAME")] = "imagenet-minilm",
    fps: Annotated[float, option("X")] = 1.0,
    index: Annotated[Path | None, option("FOLDER", default="outputs/frame_index")] = None,
    workers: Annotated[int | None, option("N", default="one encoder in this process")] = None,
    cluster: Annotated[str | None, option("ADDRESS", default="$RAY_ADDRESS, else this machine")] = None,
    device: Annotated[str, option("NAME")] = "auto",
) -> int:
    """Build frame indices of videos, in which agents search by text.

    An index is used by all runs. The same command resumes, and builds an index again whose video or encoder changed.
    Exits with 1 where a video cannot be indexed.

    Example: evqa index clip.mp4

      evqa index lvbench --encoder siglip-so400m-patch14-384 --workers 8

    Args:
        source: name of a data set (evqa list datasets) or its folder; or a video file or folder of frames.
        encoder: name of an encoder (evqa list encoders), or the folder or Hugging Face id of a CLIP-like checkpoint.
        fps: frames per second of a video file that are encoded; of a folder of frames all are.
        index: folder of all indices.
        workers: number of worker processes, each with its own copy of the encoder on its own GPU.
        cluster: address of the Ray cluster of the workers.
        device: device of the encoder: auto (a GPU if available), cpu, cuda or cuda:1.
    """
    from tqdm import tqdm

    from evqa.retrieval import index_files
    from evqa.runs import indexing

    if cluster is not None and workers is None:
        raise ValueError(f"--cluster {cluster} needs to know how many: give --workers N")
    config = indexing.IndexConfig(encoder=encoder, fps=fps, root=index, device=device)
    config.check()
    jobs = indexing.index_jobs(source)
    outcomes: list[indexing.IndexOutcome] = []
    with tqdm(total=len(jobs), unit="video", disable=len(jobs) == 1) as bar:
        for outcome in indexing.build_indices(jobs, config, workers=workers, cluster=cluster):
            outcomes.append(outcome)
            bar.update()
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in ("built", "present", "failed")}
    parts = ["1 index built" if counts["built"] == 1 else f"{counts['built']} indices built"]
    parts += [f"{counts['present']} already there"] if counts["present"] else []
    parts += [f"{counts['failed']} failed"] if counts["failed"] else []
    frames = sum(outcome.num_frames for outcome in outcomes)
    print_line(f"{index or index_files.default_root()}: {', '.join(parts)}, {plural(frames, 'frame')} in all")
    for outcome in outcomes:
        if outcome.state == "built" and outcome.reason:
            print_line(f"  built again: {outcome.reason}")
    print_failures({outcome.video: outcome.reason for outcome in outcomes if outcome.state == "failed"})
    return 1 if counts["failed"] else 0
