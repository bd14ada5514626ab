"""`evqa track`: SAM 2.1 weights in their published layouts, and what is written of the objects pointed at."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from evqa import masks, media
from evqa.__main__ import main
from evqa.files.jsonl import read_records
from evqa.schema import Prediction
from unipixel.inference import mask_frames
from unipixel.inference.video_segmentation import SegmentationRequest, segment_video
from unipixel.model.config import DECODERS
from unipixel.model.sam2 import prompts
from unipixel.model.sam2 import weights as sam2_weights
from unipixel.model.sam2.encoder import decoder_config
from unipixel.model.sam2.tracker import MaskTracker


@pytest.fixture(scope="module")
def tracker():
    torch.manual_seed(0)
    model = MaskTracker(decoder_config(DECODERS["tiny"], 128)).eval()
    model.start_from_scratch()
    return model


@pytest.fixture(scope="module")
def weights(tracker, tmp_path_factory):
    """As Meta publishes them."""
    path = tmp_path_factory.mktemp("weights") / "sam2.1_hiera_tiny.pt"
    torch.save({"model": sam2_weights.in_metas_names(tracker)}, path)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    images = np.full((9, 60, 80, 3), 90, dtype=np.uint8)
    for index, image in enumerate(images):
        image[20:40, 5 * index : 20 + 5 * index] = (220, 30, 30)
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    media.write_video(path, images, 6)
    return path


def test_metas_names_have_gammas_and_every_weight_comes_back(tracker, weights):
    names = torch.load(weights, weights_only=True)["model"]
    assert "memory_encoder.fuser.layers.0.gamma" in names
    assert "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix" in names
    loaded = sam2_weights.load_tracker(weights, 128)[1].state_dict()
    assert loaded.keys() == tracker.state_dict().keys()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in tracker.state_dict().items())


@pytest.mark.parametrize(("size", "published"), [("t", 471), ("s", 519), ("b+", 615), ("l", 903)])
def test_each_official_size_is_told_by_its_weights(size, published):
    with torch.device("meta"):
        tracker = MaskTracker(decoder_config(DECODERS[size], 1024))
    names = sam2_weights.in_metas_names(tracker)
    weights = {sam2_weights._of_meta(name): tensor for name, tensor in names.items()}
    assert weights.keys() == tracker.state_dict().keys()
    assert sam2_weights.size_name(weights, "x.pt") == size
    assert len(names) == published


def test_the_layout_of_transformers_loads_too(tracker, tmp_path):
    state = dict(tracker.state_dict())
    points = [state.pop(f"prompt_encoder.point_embeddings.{index}.weight") for index in range(4)]
    state["prompt_encoder.point_embed.weight"] = torch.cat(points)
    matrix = state["prompt_encoder.shared_embedding.positional_embedding"]
    state["shared_image_embedding.positional_embedding"] = matrix.clone()
    save_file(state, tmp_path / "model.safetensors")
    loaded = sam2_weights.load_tracker(tmp_path, 128)[1].state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in tracker.state_dict().items())


def test_points_boxes_and_masks_become_tracks_on_every_frame(tracker, weights, clip, tmp_path):
    mask = np.zeros((60, 80), dtype=np.uint8)
    mask[20:40, 20:40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    arguments = ["track", str(clip), "--point", "30,30 not:70,50", "--box", "18,18,42,42"]
    arguments += [
        "--mask",
        str(tmp_path / "mask.png"),
        "--frame",
        "4",
        "--weights",
        str(weights),
        "--image-size",
        "128",
    ]
    assert main([*arguments, "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    (prediction,) = read_records(tmp_path / "out" / "prediction.jsonl", Prediction)
    assert prediction.num_frames == 9
    assert prediction.mask_size == (60, 80)
    assert (masks.decode(prediction.tracks[2].masks[4]) == (mask > 0)).mean() > 0.99, "a given mask is kept"
    video = media.probe_video(clip)
    clicks = prompts.PointPrompt(((30 / 80, 0.5), (70 / 80, 50 / 60)), (prompts.OBJECT, prompts.BACKGROUND))
    signs = [clicks, prompts.box_prompt(18 / 80, 18 / 60, 42 / 80, 42 / 60), torch.from_numpy(mask > 0)]
    expected = segment_video(
        tracker, SegmentationRequest(video, mask_frames.plan_mask_frames(video, prompt_frame=4), signs)
    )
    assert [list(track.masks) for track in prediction.tracks] == [list(track.masks) for track in expected]
    assert [track.masks for track in prediction.tracks] == [track.masks for track in expected]
    assert media.probe_video(tmp_path / "out" / "overlay.mp4").num_frames == 9
    assert Image.open(tmp_path / "out" / "sheet.png").size[0] > 640


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "nothing to track"),
        (["--point", "81,30"], "outside of the frame"),
        (["--point", "1e9,3"], "2 numbers"),
        (["--point", "not:3,3"], "where an object is"),
        (["--box", "40,10,20,30"], "x0 < x1"),
        (["--point", "3,3", "--frame", "9"], "frames 0 to 8"),
        (["--point", "3,3", "--image-size", "100"], "multiple of 32"),
        (["--point", "3,3", "--weights", "nowhere.pt"], "no such file: nowhere.pt"),
        (["--point", "3,3", "--device", "gpu"], "device 'gpu' cannot be used, expected cpu, cuda or auto"),
    ],
)
def test_what_cannot_be_tracked_is_refused_with_its_reason(weights, clip, tmp_path, capsys, arguments, reason):
    arguments = arguments if "--weights" in arguments else [*arguments, "--weights", str(weights)]
    arguments = arguments if "--image-size" in arguments else [*arguments, "--image-size", "128"]
    assert main(["track", str(clip), *arguments, "--out", str(tmp_path)]) == 2
    assert reason in capsys.readouterr().err


def test_weights_that_are_no_tensors_or_of_no_known_model_are_refused(tmp_path, tracker):
    class Harmful:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"model": Harmful()}, tmp_path / "harmful.pt")
    with pytest.raises(ValueError, match="tensors only"):
        sam2_weights.load_tracker(tmp_path / "harmful.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match="no whole safetensors file"):
        sam2_weights.load_tracker(tmp_path / "cut.safetensors")
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"is not SAM 2\.1"):
        sam2_weights.load_tracker(tmp_path / "other.safetensors")
    names = sam2_weights.in_metas_names(tracker)
    del names["no_mem_embed"]
    torch.save({"model": names}, tmp_path / "incomplete.pt")
    with pytest.raises(ValueError, match=r"it lacks no_memory_embedding"):
        sam2_weights.load_tracker(tmp_path / "incomplete.pt", 128)
    weightless = tmp_path / "empty"
    weightless.mkdir()
    with pytest.raises(ValueError, match=r"no mask decoder at .*: expected"):
        sam2_weights.load_tracker(weightless)
