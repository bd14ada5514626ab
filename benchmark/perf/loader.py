"""What a sample costs before the model sees it: decoding by seeking, by reading all, from the frame cache.

    python benchmark/perf/loader.py decode CLIP.mp4 ...    # CPU seconds a sample with the published settings
    python benchmark/perf/loader.py step                   # the loader against the training step of the tiny model

Measured is CPU time in one thread, which other programs on the machine do not change: a loader process gives
1 / (seconds a sample) samples a second at most. `step` wants `python data/shapes/prepare.py --splits train`.
The results are in docs/measurements.md.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import tyro
from tyro.conf import Positional

from evqa import masks, media
from evqa.schema import Sample, Span, Track
from unipixel import recipes
from unipixel.configs import DataConfig
from unipixel.data import batching, frames, mixture
from unipixel.data.collate import DataCollator, SkippedSample
from unipixel.data.dataset import SFTDataset
from unipixel.data.mixture import Mixture, MixtureSource, SampleRef
from unipixel.model import checkpoints, lora
from unipixel.training import build

SIDE = 768
"""Of the published mask decoder's square."""


class ReadingAll(SFTDataset):
    """Decodes every frame of a video and picks those that are wanted: what a reader without an index does."""

    def _images(self, video: media.Video, indices: Sequence[int]) -> np.ndarray:
        wanted = set(indices)
        found = {index: image for index, image in media.read_frames(video, range(video.num_frames)) if index in wanted}
        return np.stack([found[index] for index in indices])


def decode(clips: Positional[tuple[Path, ...]], rounds: int = 3, num_frames: int = 8) -> None:
    """CPU seconds of a sample by each way to its frames; each round draws other frames, the same for every way."""
    config = DataConfig(datasets=(("clips", 1.0),), num_frames=num_frames)
    tokenizer = checkpoints.load_tokenizer(Path("model_zoo/tiny"))
    given = Mixture(sources=(_source(clips, config),), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        cached = dataclasses.replace(config, frame_cache=Path(folder))

        def examples(kind: type[SFTDataset], chosen: DataConfig) -> SFTDataset:
            return kind(mixture=given, config=chosen, tokenizer=tokenizer, side=SIDE)

        ways = {
            "seeking": examples(SFTDataset, config),
            "reading all": examples(ReadingAll, config),
            "frame cache, empty": examples(SFTDataset, cached),
            "frame cache, the same frames again": examples(SFTDataset, cached),
        }
        draws = [SampleRef(0, clip, turn * len(clips) + clip) for turn in range(rounds) for clip in range(len(clips))]
        seconds = {name: [_cpu(way, draw) for draw in draws] for name, way in ways.items()}
    images = [
        media.load_frames(video, media.uniform_indices(video, num_frames)) for video in map(media.probe_video, clips)
    ]
    rest = statistics.median(_cpu_of(lambda image=image: _prepared(ways["seeking"], image)) for image in images)
    sizes = Counter(f"{len(image[0, 0])} x {len(image[0])}" for image in images)
    print(f"{len(draws)} samples of {num_frames} frames, {dict(sizes)}, {SIDE} px; without decoding {rest:.3f} s")
    print("| frames by | median CPU s a sample | samples a second of one process | times seeking |")
    print("|---|---|---|---|")
    base = statistics.median(seconds["seeking"])
    for name, found in seconds.items():
        middle = statistics.median(found)
        print(f"| {name} | {middle:.3f} | {1 / middle:.1f} | {middle / base:.2f} |")


def step(batches: int = 4) -> None:
    """The tiny recipe on its own data: CPU seconds a sample of loading and of the training step, in turn."""
    config = recipes.build_recipe("tiny", "tiny", "base")
    start = Path("model_zoo/tiny")
    model = build.trainable_model(config, start, None).train()
    tokenizer = checkpoints.load_tokenizer(start)
    data = mixture.load_mixture(config.data, config.seed)
    side = lora.unwrap(model).config.sam2_image_size
    examples = SFTDataset(
        mixture=data, config=config.data, tokenizer=tokenizer, side=side, has_masks=config.needs_masks
    )
    size = config.loop.per_device_batch_size
    order = list(data.order(batches * size))
    loading, training = [], []
    for first in range(0, len(order), size):
        before = time.process_time()
        batch = DataCollator(0)([examples[draw] for draw in order[first : first + size]])
        middle = time.process_time()
        assert not batch.pop("skipped")
        model(**batch).loss.backward()
        model.zero_grad()
        loading.append((middle - before) / size)
        training.append((time.process_time() - middle) / size)
    load, train = statistics.median(loading), statistics.median(training)
    print(f"CPU s a sample, median of {batches} batches of {size}: loading {load:.4f}, step {train:.4f}")
    print(f"one loader process feeds {train / load:.1f} training processes of its own speed")


def _source(clips: Sequence[Path], config: DataConfig) -> MixtureSource:
    samples = [_sample(number, path) for number, path in enumerate(clips)]
    sizes = np.array([batching.size_of(sample, config) for sample in samples])
    return MixtureSource(name="clips", repeat=1.0, samples=samples, left_out=Counter(), sha256="", sizes=sizes)


def _sample(number: int, path: Path) -> Sample:
    video = media.probe_video(path)
    mask = np.zeros((video.height, video.width), dtype=bool)
    mask[video.height // 4 : video.height // 2, video.width // 4 : video.width // 2] = True
    track = Track(masks=dict.fromkeys(range(video.num_frames), masks.encode(mask)))
    return Sample(
        id=str(number),
        video_id=path.stem,
        video=path,
        question="What is there?",
        options=("this", "that"),
        answer=0,
        spans=(Span(0.0, video.duration / 2),),
        tracks=(track,),
    )


def _prepared(examples: SFTDataset, images: np.ndarray) -> None:
    """What is done with frames once they are decoded."""
    frames.llm_pixels(images, examples.config.min_pixels, examples.config.max_pixels)
    frames.decoder_frames(images, examples.side)


def _cpu(examples: SFTDataset, draw: SampleRef) -> float:
    def load() -> None:
        item = examples[draw]
        assert not isinstance(item, SkippedSample), item

    return _cpu_of(load)


def _cpu_of(run: Callable[[], None]) -> float:
    before = time.process_time()
    run()
    return time.process_time() - before


def main() -> None:
    """Run one subcommand."""
    torch.set_num_threads(1)
    tyro.extras.subcommand_cli_from_dict({"decode": decode, "step": step})


if __name__ == "__main__":
    main()
