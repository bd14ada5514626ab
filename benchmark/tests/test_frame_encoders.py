"""Encoders of frames: CLIP-like checkpoints, published embeddings, the scores of the oracle."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tiny_clip import write_clip_checkpoint

from evqa import media
from evqa.retrieval import encoders
from evqa.retrieval.encoders import Encoder, load_encoder
from evqa.retrieval.frame_grid import FrameGrid, frame_grid
from evqa.retrieval.frame_index import open_or_build
from evqa.retrieval.published_index import published_index

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "oracles" / "agents" / "retrieve"
TOLERANCE = 2e-3
needs_oracle = pytest.mark.skipif(not ORACLE.is_dir(), reason="the oracles are not on this machine")


@pytest.fixture(scope="module")
def siglip() -> Encoder:
    if not ORACLE.is_dir():
        pytest.skip("the oracles are not on this machine")
    return load_encoder(str(ORACLE / "data" / "siglip_tiny"), device="cpu")


def grid_of(key: str) -> FrameGrid:
    duration = {"vnodur": None}.get(key, 12.0)
    return frame_grid(media.probe_video(ORACLE / "data" / "frames" / key), duration=duration)


def expected_scores() -> list[tuple[str, str, list[tuple[int, float]]]]:
    if not ORACLE.is_dir():
        return []
    similarity = json.loads((ORACLE / "expected.json").read_text(encoding="utf-8"))["similarity"]
    return [
        (key, query, expected["right_padding_max_length"])
        for key, queries in similarity.items()
        for query, expected in queries.items()
    ]


@needs_oracle
@pytest.mark.parametrize(("key", "query", "expected"), expected_scores())
def test_scores_of_published_embeddings_are_those_of_the_oracle(
    siglip: Encoder, key: str, query: str, expected: list[tuple[int, float]]
):
    index = published_index(ORACLE / "data" / "embeddings" / f"{key}.pt", grid_of(key), siglip)
    hits = index.search(query, k=len(expected), min_gap=0).hits
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=TOLERANCE)
    scores = {hit.id: hit.score for hit in hits}
    for number, score in expected:
        assert scores[number] == pytest.approx(score, abs=TOLERANCE)
    spread = index.search(query).hits
    assert [hit.score for hit in spread] == sorted((hit.score for hit in spread), reverse=True)


@needs_oracle
def test_odd_names_of_published_embeddings_are_stated(siglip: Encoder):
    index = published_index(ORACLE / "data" / "embeddings" / "vstray.pt", grid_of("vstray"), siglip)
    assert index.grid.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert len(index.embeddings) == 6
    assert all("cover.jpg" in note for note in index.notes)


@needs_oracle
def test_a_missing_file_of_embeddings_is_a_clear_error(siglip: Encoder):
    with pytest.raises(ValueError, match=r"no published embeddings at .*vnoemb\.pt"):
        published_index(ORACLE / "data" / "embeddings" / "vnoemb.pt", grid_of("vnoemb"), siglip)


@needs_oracle
def test_frames_have_the_embeddings_that_transformers_computes(siglip: Encoder, tmp_path: Path):
    grid = grid_of("vdog")
    index = open_or_build(grid, siglip, tmp_path)
    folder = ORACLE / "data" / "siglip_tiny"
    model = transformers.AutoModel.from_pretrained(folder)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    images = [Image.fromarray(image) for _, image in media.read_frames(grid.video, grid.indices.tolist())]
    with torch.inference_mode():
        features = model.get_image_features(**processor(images, return_tensors="pt")).pooler_output
    np.testing.assert_allclose(index.embeddings, torch.nn.functional.normalize(features, dim=-1), atol=1e-5)


class FlatEncoder:
    """Encoder of two dimensions, for files of embeddings."""

    name, revision, dim, note, is_cosine, presence_threshold, batch_size = "flat", "1", 2, "", True, 1.0, 1

    def encode_images(self, images: Any) -> Any:
        return np.ones((len(images), 2), np.float32)

    def encode_text(self, text: str) -> Any:
        return np.array([1, 0], np.float32)

    def lift(self, scores: Any) -> Any:
        return scores


@pytest.fixture
def frames(tmp_path: Path) -> FrameGrid:
    (tmp_path / "video").mkdir()
    for number in (1, 2, 3):
        Image.new("RGB", (16, 16)).save(tmp_path / "video" / f"frame_{number}.jpg")
    return frame_grid(media.probe_video(tmp_path / "video"), duration=3.0)


NAMES = ["frame_1.jpg", "frame_2.jpg", "frame_3.jpg"]


def test_rows_are_matched_by_name_and_normalised(frames: FrameGrid, tmp_path: Path):
    rows = torch.tensor([[0.0, 3.0], [5.0, 0.0], [1.0, 1.0], [9.0, 9.0]], dtype=torch.float16)
    torch.save(
        {"filenames": ["a/frame_3.jpg", "frame_1.jpg", "frame_2.JPG", "x\x1b.jpg"], "embeddings": rows},
        tmp_path / "v.pt",
    )
    index = published_index(tmp_path / "v.pt", frames, FlatEncoder())
    np.testing.assert_allclose(index.embeddings, [[1, 0], [0.5**0.5, 0.5**0.5], [0, 1]], atol=1e-3)
    assert index.notes == ("v.pt: 1 names are no frames of the video: x\\x1b.jpg",)
    assert [hit.id for hit in index.search("x", min_gap=0).hits] == [1, 2, 3]


class Malicious:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("executed"),))


HOSTILE: dict[str, Any] = {
    "a list": [1, 2],
    "no names": {"embeddings": torch.ones(3, 2)},
    "names that are numbers": {"filenames": [1, 2, 3], "embeddings": torch.ones(3, 2)},
    "a list of embeddings": {"filenames": NAMES, "embeddings": [[1.0, 2.0]] * 3},
    "integers": {"filenames": NAMES, "embeddings": torch.ones(3, 2, dtype=torch.int64)},
    "another dimension": {"filenames": NAMES, "embeddings": torch.ones(3, 4)},
    "one row too few": {"filenames": NAMES, "embeddings": torch.ones(2, 2)},
    "one frame too few": {"filenames": NAMES[:2], "embeddings": torch.ones(2, 2)},
    "a frame twice": {"filenames": [*NAMES, "frame_1.jpg"], "embeddings": torch.ones(4, 2)},
    "NaN": {"filenames": NAMES, "embeddings": torch.full((3, 2), float("nan"))},
    "zeros": {"filenames": NAMES, "embeddings": torch.zeros(3, 2)},
    "a huge view": {"filenames": NAMES, "embeddings": torch.ones(1, 1).expand(3, 10**12)},
    "a sparse tensor": {"filenames": NAMES, "embeddings": torch.ones(3, 2).to_sparse()},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_embeddings_are_a_clear_error(frames: FrameGrid, tmp_path: Path, case: str):
    torch.save(HOSTILE[case], tmp_path / "v.pt")
    with pytest.raises(ValueError, match=r"v\.pt"):
        published_index(tmp_path / "v.pt", frames, FlatEncoder())


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_embeddings_is_not_run(frames: FrameGrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"filenames": NAMES, "embeddings": Malicious()}, tmp_path / "v.pt")
    (tmp_path / "w.pt").write_bytes(pickle.dumps(Malicious()))
    (tmp_path / "x.pt").write_bytes((tmp_path / "v.pt").read_bytes()[:-200])
    for name in ("v.pt", "w.pt", "x.pt"):
        with pytest.raises(ValueError, match="cannot load the embeddings"):
            published_index(tmp_path / name, frames, FlatEncoder())
    assert not (tmp_path / "executed").exists()


# Other checkpoints


def test_a_clip_checkpoint_by_path_encodes_images_and_texts(tmp_path: Path):
    folder = write_clip_checkpoint(tmp_path / "clip")
    encoder = load_encoder(str(folder), device="cpu")
    assert (encoder.dim, encoder.is_cosine) == (24, True)
    images = [np.full((40, 60, 3), value, np.uint8) for value in (10, 200)]
    vectors = encoder.encode_images(images)
    assert (vectors.shape, vectors.dtype) == ((2, 24), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    model = transformers.CLIPModel.from_pretrained(folder)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)(["a red car"], return_tensors="pt")
    with torch.inference_mode():
        expected = model.get_text_features(**tokens).pooler_output[0]
    np.testing.assert_allclose(encoder.encode_text("a red car"), expected / expected.norm(), atol=1e-5)
    assert encoder.encode_text("car " * 500).shape == (24,)
    assert not np.allclose(encoder.encode_text("dog"), encoder.encode_text("red"))


def test_the_revision_follows_weights_and_preprocessing(tmp_path: Path):
    folder = write_clip_checkpoint(tmp_path / "clip")
    first = load_encoder(str(folder), device="cpu").revision
    (tmp_path / "clip").rename(tmp_path / "moved")
    assert load_encoder(str(tmp_path / "moved"), device="cpu").revision == first
    settings = json.loads((tmp_path / "moved" / "preprocessor_config.json").read_text())
    (tmp_path / "moved" / "preprocessor_config.json").write_text(json.dumps(settings | {"do_normalize": False}))
    assert load_encoder(str(tmp_path / "moved"), device="cpu").revision != first


def test_a_checkpoint_of_another_kind_is_rejected(tmp_path: Path):
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="BertModel, expected a model like CLIP or SigLIP"):
        load_encoder(str(tmp_path / "bert"), device="cpu")


@needs_oracle
def test_lift_of_siglip_is_relative_to_a_random_pair(siglip: Encoder):
    scores = np.linspace(-1, 1, 9, dtype=np.float32)
    lift = siglip.lift(scores)
    assert (np.diff(lift) >= 0).all()
    assert 0 <= lift[0] <= lift[-1] <= 32768


def test_an_unknown_encoder_is_named_with_near_ones():
    with pytest.raises(ValueError, match="did you mean siglip-so400m-patch14-384"):
        encoders.load_encoder("siglip-so400m-patch14-348")
    with pytest.raises(ValueError, match="hf download nobody/nothing"):
        encoders.load_encoder("nobody/nothing")
