"""`evqa predict --batch-size N`: several samples in one pass give what each gives alone."""

import pytest
import torch

from evqa import datasets, masks, methods, models
from evqa.__main__ import main
from evqa.files.jsonl import read_records
from evqa.models.base import Models
from evqa.runs import run_folder, thread_executor
from evqa.schema import Prediction
from unipixel.model import checkpoints


@pytest.fixture
def speaking(tiny_model, tokenizer, tmp_path):
    """A random model that mixes `<|seg|>` with other tokens, and whose objects are there."""
    with torch.no_grad():
        tiny_model.model.language_model.embed_tokens.weight[tiny_model.config.seg_token_id] *= 3
        tiny_model.sam2.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(5.0)
    folder = tmp_path / "speaking"
    checkpoints.save_checkpoint(tiny_model, folder, tokenizer)
    return folder


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_samples_in_a_batch_get_the_predictions_of_each_alone(speaking, squares, temperature):
    samples = datasets.load(str(squares)).samples[:5]
    settings = {"num_frames": 4, "max_new_tokens": 6, "temperature": temperature, "fps": None}
    found, passes = {}, []
    for size in (1, 4):
        chat = models.build(str(speaking), batch_size=size, **settings)
        generate = chat.model.generate_with_mask_prompts
        chat.model.generate_with_mask_prompts = lambda write=generate, **inputs: (
            passes.append(len(inputs["input_ids"])) or write(**inputs)
        )
        executor = thread_executor.ThreadExecutor(Models(chat))
        assert executor.size == (8 if size > 1 else 1)
        found[size] = {one.sample_id: one for one in executor.predict(samples, methods.METHODS["single-turn"])}
    assert passes[:5] == [1] * 5
    assert 2 <= max(passes[5:]) <= 4, "samples share a pass, as far as they are ready in time"
    assert sum(passes[5:]) == 5
    assert len({one.turns[0].reply for one in found[1].values()}) > 1 or not temperature
    assert any(one.tracks for one in found[1].values()) or temperature
    for sample in samples:
        one, other = found[1][sample.id], found[4][sample.id]
        assert one.status == other.status == "ok", (one.error, other.error)
        assert one.turns[0].reply == other.turns[0].reply
        assert (one.spans, one.answer, one.num_frames) == (other.spans, other.answer, other.num_frames)
        for a, b in zip(one.tracks, other.tracks, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-5)
            pairs = [(masks.decode(a.masks[i]), masks.decode(b.masks[i])) for i in a.masks.keys() & b.masks.keys()]
            assert len(a.masks.keys() ^ b.masks.keys()) <= 1
            assert all(int((x != y).sum()) <= 2 for x, y in pairs), "but for pixels whose logit is rounding"


@pytest.fixture
def silent(tiny_model, tokenizer, tmp_path):
    """A model that ends every reply at once."""
    config = tiny_model.config
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    with torch.no_grad():
        tiny_model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(tiny_model.lm_head.weight))
        tiny_model.lm_head.weight[tokenizer.convert_tokens_to_ids("<|im_end|>"), 0] = 1.0
        tiny_model.model.language_model.embed_tokens.weight[:, 0] = 50.0
    checkpoints.save_checkpoint(tiny_model, tmp_path / "silent", tokenizer)
    return tmp_path / "silent"


def test_the_command_predicts_in_batches_and_one_bad_file_fails_alone(silent, squares, tmp_path, capsys):
    """The size of a batch is no part of a run's identity: the same run goes on with another."""
    video = squares / "videos" / "3.mp4"
    content = video.read_bytes()
    video.write_bytes(b"no video")
    command = ["predict", str(squares), str(silent), "--out", str(tmp_path / "run")]
    try:
        assert main([*command, "--batch-size", "3", "--fps", "1", "--max-frames", "4"]) == 1
    finally:
        video.write_bytes(content)
    assert "7 predicted, 1 failed" in capsys.readouterr().out
    assert main([*command, "--fps", "1", "--max-frames", "4"]) == 0
    found = list(read_records(tmp_path / "run" / run_folder.PREDICTIONS, Prediction))
    assert len(found) == 9
    assert [one.sample_id for one in found if one.status == "failed"] == ["square-3"]
