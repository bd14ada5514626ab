import pytest
import torch

from evqa.models.messages import Message, VideoPart
from unipixel.data import chat_format, frames

SIDE = 128


def a_sample(tokenizer, answer, num_frames=3, seed=0):
    """Inputs of one conversation about random frames of 84 x 84, with masks for each `<|seg|>`."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (num_frames, 84, 84, 3), generator=generator, dtype=torch.uint8).numpy()
    patches = frames.llm_pixels(images, 84 * 84, 84 * 84)
    clip = VideoPart(__file__)
    messages = [Message("user", (clip, "Who?")), Message("assistant", (answer,))]
    encoded = chat_format.encode_conversation(tokenizer, messages, [patches.num_tokens])
    objects = answer.count("<|seg|>")
    return {
        "input_ids": encoded.input_ids[None],
        "labels": encoded.labels[None],
        "pixel_values_videos": patches.pixel_values,
        "video_grid_thw": patches.grid_thw[None],
        "frames": [frames.decoder_frames(images, SIDE)],
        "masks": [torch.rand(num_frames, objects, SIDE, SIDE, generator=generator) > 0.6],
    }


def together(samples, pad):
    length = max(sample["input_ids"].shape[1] for sample in samples)

    def padded(key, value):
        return torch.cat([torch.nn.functional.pad(s[key], (0, length - s[key].shape[1]), value=value) for s in samples])

    ids = padded("input_ids", pad)
    lengths = torch.tensor([sample["input_ids"].shape[1] for sample in samples])
    return {
        "input_ids": ids,
        "attention_mask": (torch.arange(length) < lengths[:, None]).long(),
        "labels": padded("labels", -100),
        "pixel_values_videos": torch.cat([sample["pixel_values_videos"] for sample in samples]),
        "video_grid_thw": torch.cat([sample["video_grid_thw"] for sample in samples]),
        "frames": [sample["frames"][0] for sample in samples],
        "masks": [sample["masks"][0] for sample in samples],
    }


@torch.no_grad()
def test_a_padded_batch_of_unlike_samples_equals_each_alone(tiny_model, tokenizer):
    samples = [
        a_sample(tokenizer, "It is <|seg|> and the other <|seg|>.", num_frames=3, seed=1),
        a_sample(tokenizer, "<|seg|>", num_frames=1, seed=2),
        a_sample(tokenizer, "No object is meant, so nothing is drawn.", num_frames=2, seed=3),
        a_sample(tokenizer, "Here: <|seg|>", num_frames=3, seed=4),
    ]
    batch = tiny_model(**together(samples, tokenizer.pad_token_id))
    alone = [tiny_model(**sample) for sample in samples]
    assert [len(prompts) for prompts in batch.prompts] == [2, 1, 0, 1]
    assert batch.candidates[2] is None
    for ours, single in zip(batch.candidates, (out.candidates[0] for out in alone), strict=True):
        if ours is not None:
            torch.testing.assert_close(ours.masks, single.masks, rtol=1e-3, atol=1e-3)
    losses = [out.mask_loss.total for out in alone if out.mask_loss is not None]
    torch.testing.assert_close(batch.mask_loss.total, torch.stack(losses).mean(), rtol=1e-4, atol=1e-4)
    counts = torch.tensor([(sample["labels"] != -100).sum() for sample in samples])
    mean = (torch.stack([out.lm_loss for out in alone]) * counts).sum() / counts.sum()
    torch.testing.assert_close(batch.lm_loss, mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(batch.loss, batch.lm_loss + batch.mask_share * batch.mask_loss.total)
    assert batch.mask_share == len(losses) / len(alone)


def test_training_computes_the_same_loss_from_fewer_logits(tiny_model, tokenizer):
    sample = a_sample(tokenizer, "It is <|seg|>.")
    wanted = tiny_model(**sample)
    tiny_model.train()
    ours = tiny_model(**sample)
    assert wanted.logits.shape[1] == sample["input_ids"].shape[1]
    assert ours.logits is None
    torch.testing.assert_close(ours.loss, wanted.loss, rtol=1e-5, atol=1e-5)


def test_the_mask_loss_reaches_the_language_model_and_checkpointing_changes_no_gradient(tiny_model, tokenizer):
    sample = a_sample(tokenizer, "It is <|seg|>.")
    tiny_model.train()
    gradients = []
    for is_checkpointing in (False, True):
        if is_checkpointing:
            tiny_model.gradient_checkpointing_enable({"use_reentrant": False})
            assert tiny_model.sam2.gradient_checkpointing
        tiny_model.zero_grad()
        tiny_model(**sample).mask_loss.total.backward()
        gradients.append({n: p.grad.clone() for n, p in tiny_model.named_parameters() if p.grad is not None})
    assert gradients[0]["model.language_model.layers.0.self_attn.q_proj.weight"].abs().max() > 0
    assert gradients[0]["model.visual.patch_embed.proj.weight"].abs().max() > 0
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5)


def test_fifty_steps_on_one_sample_learn_its_mask(tiny_model, tokenizer):
    sample = a_sample(tokenizer, "It is <|seg|>.", num_frames=1)
    sample["masks"] = [torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)]
    sample["masks"][0][:, :, 32:96, 32:96] = True
    tiny_model.train()
    optimizer = torch.optim.AdamW([p for p in tiny_model.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(50):
        out = tiny_model(**sample)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        losses.append(out.loss.item())
    assert losses[-1] < 0.2 * losses[0]
    wanted = sample["masks"][0][0, :, ::4, ::4]  # [1, h, w]
    candidates = out.candidates[0].masks[0, 0] > 0  # [3, h, w]; the estimate of which is best takes longer to learn
    iou = (candidates & wanted).sum((1, 2)) / (candidates | wanted).sum((1, 2))
    assert iou.max() > 0.9


def test_a_random_part_of_many_objects_is_trained_on(tiny_model, tokenizer):
    tiny_model.config.sample_objects = 2
    sample = a_sample(tokenizer, "<|seg|><|seg|><|seg|><|seg|>", num_frames=1)
    assert tiny_model(**sample).candidates[0].masks.shape[1] == 4
    tiny_model.train()
    assert tiny_model(**sample).candidates[0].masks.shape[1] == 2


def test_masks_must_be_as_many_as_seg_tokens(tiny_model, tokenizer):
    sample = a_sample(tokenizer, "<|seg|><|seg|>")
    sample["masks"] = [sample["masks"][0][:, :1]]
    with pytest.raises(ValueError, match=r"has 2 <\|seg\|> tokens and masks of 1 objects"):
        tiny_model(**sample)


@pytest.mark.parametrize("token", ["<|ref|>", "<|mem|>"])
def test_a_pointing_token_without_what_it_points_at_is_refused(tiny_model, tokenizer, token):
    row = torch.tensor([[20, tokenizer.convert_tokens_to_ids(token), 21]])
    with pytest.raises(ValueError, match=f"has 1 {token.replace('|', r'[|]')} tokens, but 0 embeddings"):
        tiny_model(row)


def test_prompts_of_a_reply_are_those_of_reading_it_again(tiny_model, tokenizer):
    """Each comes from the state that predicts its `<|seg|>`, also where the token is sampled."""
    sample = a_sample(tokenizer, "", num_frames=2)
    inputs = {key: sample[key] for key in ("pixel_values_videos", "video_grid_thw")}
    seg = tiny_model.config.seg_token_id
    with torch.no_grad():
        tiny_model.model.language_model.embed_tokens.weight[seg] = 0.0
    torch.manual_seed(0)
    others = [token for token in range(10) if token != seg]
    options = {"do_sample": True, "temperature": 5.0, "top_k": 0, "max_new_tokens": 200, "eos_token_id": None}
    written = tiny_model.generate_one(sample["input_ids"], **inputs, **options, suppress_tokens=others)
    assert 1 <= len(written.prompts) < 20
    with torch.no_grad():
        again = tiny_model(torch.cat([sample["input_ids"], written.ids[None]], dim=1), **inputs)
    torch.testing.assert_close(again.prompts[0], written.prompts, rtol=1e-3, atol=1e-4)
