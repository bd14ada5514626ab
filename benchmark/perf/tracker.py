"""What following objects costs: against upstream's protocol in the same run, in memory, in a training step.

    python benchmark/perf/tracker.py cost                                   # hiera-tiny, 256 px, 8 frames
    python benchmark/perf/tracker.py cost --size b+ --side 768 --objects 3 --repeats 1
    python benchmark/perf/tracker.py memory                                 # peak memory at 500 and 4000 frames
    python benchmark/perf/tracker.py memory --size t --side 768 --objects 1 --frames 20 60
    python benchmark/perf/tracker.py step                                   # a training step and its parts
    python benchmark/perf/tracker.py savings                                # J&F against fewer visits, tiny model

Times are CPU seconds of this process on one thread, the least of some repeats, ours and theirs in turn. Weights are
random but for `savings`. Results: docs/measurements.md.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

import numpy as np
import one_by_one
import torch
import tyro

from evqa import datasets, media, methods, models
from evqa.metrics import frames as mask_metrics
from evqa.models.base import Models
from unipixel.inference import mask_frames
from unipixel.inference.video_segmentation import SegmentationRequest, segment_video, segment_videos
from unipixel.model.config import DECODERS, UniPixelConfig
from unipixel.model.losses import mask_loss
from unipixel.model.sam2.encoder import decoder_config
from unipixel.model.sam2.outputs import ImageFeatures
from unipixel.model.sam2.streaming import VideoPrompts, propagate
from unipixel.model.sam2.tracker import MaskTracker
from unipixel.model.unipixel import UniPixel

if TYPE_CHECKING:
    from unipixel.inference.chat import UniPixelChat

SAVINGS: dict[str, dict[str, Any]] = {
    "upstream: prompted on frame 0, every frame": {},
    "prompted in the predicted span": {"prompt_frame": "evidence"},
    "half of the frames": {"share": 2},
    "a quarter of the frames": {"share": 4},
    "only 0.5 s around predicted spans": {"margin": 0.5},
    "the same, prompted there": {"margin": 0.5, "prompt_frame": "evidence"},
}

NEAR = mask_frames.MaskFramePolicy(prompt_frame="evidence", margin=0.5)
"""Its frames are those in the predicted spans and half a second around them."""


def cost(
    size: str = "t", side: int = 256, frames: int = 8, objects: tuple[int, ...] = (1, 3, 8), repeats: int = 3
) -> None:
    """CPU time of all objects in one pass against one after the other, images encoded, largest difference."""
    tracker = _tracker(size, side)
    video = torch.randn(frames, 3, side, side)
    print(f"SAM 2.1 {size}, {side} px, {frames} frames, {repeats} repeats")
    print("| objects | plain (s) | ours (s) | ratio | images plain | images ours | largest difference of logits |")
    print("|---|---|---|---|---|---|---|")
    images: list[int] = []
    tracker.vision_encoder.register_forward_pre_hook(lambda _, inputs: images.append(len(inputs[0])))

    def counted(run: Callable[[], Any]) -> tuple[Any, int]:
        images.clear()
        return run(), sum(images)

    for count in objects:
        prompts = torch.randn(count, 2, tracker.hidden_dim)
        footage = VideoPrompts(video, prompts, frames)
        with torch.inference_mode():
            plain, ours = _in_turn(
                repeats,
                lambda p=prompts: counted(lambda: one_by_one.each_object(tracker, video, p, occlude=True)),
                lambda f=footage: counted(lambda: list(propagate(tracker, f))),
            )
        theirs = torch.stack([torch.cat([frame.masks for frame in one]) for one in plain.value[0]], 1)
        difference = (torch.stack([drawn.masks for drawn in ours.value[0]]) - theirs).abs().max().item()
        print(
            f"| {count} | {plain.seconds:.2f} | {ours.seconds:.2f} | {plain.seconds / ours.seconds:.2f} "
            f"| {plain.value[1]} | {ours.value[1]} | {difference:.1e} |",
            flush=True,
        )


def memory(
    frames: tuple[int, ...] = (500, 4000),
    objects: int = 2,
    prompt_part: float = 0.0,
    size: str = "tiny",
    side: int = 128,
) -> None:
    """Peak memory of a process that reads, tracks and encodes a video of so many frames."""
    for count in frames:
        command = [sys.executable, __file__, "one-length", "--frames", str(count), "--objects", str(objects)]
        command += ["--prompt-part", str(prompt_part), "--size", size, "--side", str(side)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)


def one_length(frames: int, objects: int, prompt_part: float, size: str, side: int) -> None:
    """One row of `memory`."""
    torch.set_num_threads(1)
    tracker = _tracker(size, side)
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (90, 160, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        media.write_video(path, (np.roll(ground, index, 1) for index in range(frames)), 30)
        video = media.probe_video(path)
        before = _peak_mb()
        planned = mask_frames.plan_mask_frames(video, prompt_frame=int(prompt_part * (frames - 1)))
        found = segment_video(tracker, SegmentationRequest(video, planned, torch.randn(objects, 2, tracker.hidden_dim)))
    masks = sum(len(track.masks) for track in found)
    print(f"{frames} frames, {objects} objects: peak {_peak_mb():.0f} MB ({before:.0f} before), {masks} masks")


def step(objects: int = 3, frames: int = 8, repeats: int = 3, size: str = "tiny", side: int = 128) -> None:
    """One training step (forward and backward) against encoder, tracker with its loss, and language model apart."""
    torch.manual_seed(0)
    model = _model(size, side).train()
    inputs = _inputs(model, objects)
    video = torch.randn(frames, 3, side, side)
    labels = torch.zeros(frames, objects, side, side, dtype=torch.bool)
    labels[..., side // 4 : side // 2, side // 4 : side // 2] = True
    whole = {**inputs, "frames": [video], "masks": [labels]}
    with torch.no_grad():
        leaf = ImageFeatures(*(level.requires_grad_() for level in model.sam2.encode(video)))
        prompts = model(**inputs).prompts[0].requires_grad_()

    def encoder() -> None:
        torch.stack([level.square().mean() for level in model.sam2.encode(video)]).sum().backward()

    def tracker() -> None:
        with mock.patch.object(model.sam2, "encode", return_value=leaf):
            mask_loss(model.sam2(video[None], prompts), labels).total.backward()

    parts = {"encoder": encoder, "tracker and loss": tracker, "language model": lambda: model(**inputs).loss.backward()}
    runs = _in_turn(repeats, lambda: model(**whole).loss.backward(), *parts.values())
    total = sum(run.seconds for run in runs[1:])
    for name, run in zip(["whole step", *parts], runs, strict=True):
        print(f"{name:18} {run.seconds:.3f} s")
    print(f"{'sum of parts':18} {total:.3f} s; the step takes {runs[0].seconds / total:.3f} of it")


def savings(data: str = "shapes-test", model: str = "tiny", limit: int = 40) -> None:
    """J&F and CPU seconds of drawing under each setting; each reply is written once, and drawn under all."""
    chat = cast("UniPixelChat", models.build(model, device="cpu"))
    told: list[SegmentationRequest] = []
    samples = [sample for sample in datasets.load(data).samples if mask_metrics.gold_masks(sample)][:limit]
    note = lambda tracker, scenes: told.extend(scenes) or segment_videos(tracker, scenes)  # noqa: E731
    with mock.patch("unipixel.inference.chat.segment_videos", note):
        predictions = [methods.METHODS["single-turn"](Models(chat), sample) for sample in samples]
    assert len(told) == len(samples), "each reply of the model is drawn once"
    print(f"{model} on {len(samples)} samples of {data}")
    print("| setting | J&F | near predicted spans | frames decoded | CPU s |\n|---|---|---|---|---|")
    for name, setting in SAVINGS.items():
        means, seconds, visited = [], 0.0, 0
        for sample, prediction, (video, _, prompts) in zip(samples, predictions, told, strict=True):
            policy = mask_frames.MaskFramePolicy(
                prompt_frame=setting.get("prompt_frame", "first"),
                margin=setting.get("margin"),
                fps=video.fps / setting["share"] if "share" in setting else None,
            )
            start = time.process_time()
            planned = policy.plan(video, prediction.turns[-1].reply)
            (found,) = segment_videos(chat.model.sam2, [SegmentationRequest(video, planned, prompts)])
            seconds += time.process_time() - start
            visited += len(planned.order)
            drawn = prediction.model_copy(update={"tracks": tuple(found), "mask_frames": tuple(planned.covered)})
            compared = mask_metrics.compare(mask_metrics.gold_masks(sample) or {}, drawn, video.num_frames)
            near = frozenset(NEAR.plan(video, prediction.turns[-1].reply).covered)
            means.append((compared.mean("jf"), replace(compared, computed=near).mean_where_computed("jf")))
        strict, inside = 100 * np.mean(means, axis=0)
        print(f"| {name} | {strict:.1f} | {inside:.1f} | {visited} | {seconds:.1f} |", flush=True)


class Run:
    """The least CPU time of some calls, and what the last one gave."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call: Callable[[], Any] = call
        self.seconds = float("inf")
        self.value: Any = None

    def once(self) -> None:
        """Call it and note the time."""
        start = time.process_time()
        self.value = self.call()
        self.seconds = min(self.seconds, time.process_time() - start)


def _in_turn(repeats: int, *calls: Callable[[], Any]) -> list[Run]:
    """All calls in turn, so often."""
    runs = [Run(call) for call in calls]
    for _ in range(repeats):
        for run in runs:
            run.once()
    return runs


def _tracker(size: str, side: int) -> MaskTracker:
    torch.manual_seed(0)
    tracker = MaskTracker(decoder_config(DECODERS[size], side)).eval()
    tracker.start_from_scratch()
    with torch.no_grad():  # every object is there, so that masks are drawn and kept
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(20.0)
    return tracker


def _model(size: str, side: int) -> UniPixel:
    """A language model of 8 layers with the decoder of a size."""
    config = UniPixelConfig(
        text_config={
            "vocab_size": 1000,
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 8,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_heads": 4,
            "out_hidden_size": 256,
            "fullatt_block_indexes": [3, 7],
            "tokens_per_second": 2,
        },
        video_token_id=990,
        image_token_id=991,
        vision_start_token_id=992,
        vision_end_token_id=993,
        ref_token_id=994,
        seg_token_id=995,
        mem_token_id=996,
        sam2_config=size,
        sam2_image_size=side,
        tie_word_embeddings=True,
    )
    model = UniPixel(config)
    model.start_new_parts()
    model.sam2.start_from_scratch()
    return model


def _inputs(model: UniPixel, objects: int) -> dict[str, Any]:
    """Eight frames of 168 x 224 and a reply with a `<|seg|>` for each object."""
    grid = torch.tensor([[4, 12, 16]])
    video = [992, *[990] * int(grid.prod() // 4), 993]
    ids = [*range(20), *video, *range(20, 60), *[995] * objects, 2]
    labels = torch.tensor([ids]).clone()
    labels[:, : len(ids) - objects - 20] = -100
    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        "labels": labels,
        "pixel_values_videos": torch.randn(int(grid.prod()), 1176),
        "video_grid_thw": grid,
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run one subcommand."""
    torch.set_num_threads(1)
    tyro.extras.subcommand_cli_from_dict(
        {"cost": cost, "memory": memory, "one-length": one_length, "step": step, "savings": savings}
    )


if __name__ == "__main__":
    main()
