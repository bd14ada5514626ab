"""Several conversations at once give what each gives alone."""

import pytest
import torch

from evqa.models.messages import Message, VideoPart
from evqa.models.sampling import RowDecoding, Sampling
from unipixel.data import chat_format, frames


def a_question(tokenizer, text, num_frames, side, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (num_frames, side, side, 3), generator=generator, dtype=torch.uint8).numpy()
    patches = frames.llm_pixels(images, side * side, side * side)
    messages = [Message("user", (VideoPart(__file__), text))]
    encoded = chat_format.encode_conversation(tokenizer, messages, [patches.num_tokens], reply=True)
    times = [0.7 * index for index in range(num_frames)]
    return encoded.input_ids, patches, times


@pytest.mark.parametrize("encoding", ["fixed-2fps", "absolute"])
def test_a_left_padded_batch_writes_what_each_row_writes_alone(tiny_model, tokenizer, encoding):
    tiny_model.config.time_encoding = encoding
    rows = [
        a_question(tokenizer, "Who?", 3, 84, 1),
        a_question(tokenizer, "What is seen here, and where does it go after that?", 6, 112, 2),
        a_question(tokenizer, "Where is it?", 1, 84, 3),
    ]
    seg = tiny_model.config.seg_token_id
    with torch.no_grad():  # every state likes <|seg|> a little, so that replies mix it with other tokens
        tiny_model.model.language_model.embed_tokens.weight[seg] *= 3
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
    alone = [
        tiny_model.generate_one(
            ids[None],
            pixel_values_videos=patches.pixel_values,
            video_grid_thw=patches.grid_thw[None],
            frame_times=[times],
            **options,
        )
        for ids, patches, times in rows
    ]
    longest = max(len(ids) for ids, _, _ in rows)
    padded = [torch.nn.functional.pad(ids, (longest - len(ids), 0), value=tokenizer.pad_token_id) for ids, _, _ in rows]
    mask = torch.stack([(torch.arange(longest) >= longest - len(ids)).long() for ids, _, _ in rows])
    together = tiny_model.generate_with_mask_prompts(
        torch.stack(padded),
        attention_mask=mask,
        pixel_values_videos=torch.cat([patches.pixel_values for _, patches, _ in rows]),
        video_grid_thw=torch.stack([patches.grid_thw for _, patches, _ in rows]),
        frame_times=[times for _, _, times in rows],
        **options,
    )
    for ours, single in zip(together, alone, strict=True):
        assert ours.ids.tolist() == single.ids.tolist()
        torch.testing.assert_close(ours.states, single.states, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.prompts, single.prompts, rtol=0, atol=1e-5)


def test_a_row_of_a_batch_ends_at_its_own_first_end(tiny_model):
    ids = torch.tensor([5, 7, 2, 0, 0])
    states = torch.arange(5.0)[:, None].expand(5, 64)
    written = tiny_model._generations(ids, states, [2, 0])
    assert written.ids.tolist() == [5, 7, 2]
    assert written.states[:, 0].tolist() == [0.0, 1.0, 2.0]
    assert len(tiny_model._generations(ids, states, None).ids) == 5


def test_log_probabilities_are_those_of_the_logits_that_chose_the_tokens(tiny_model, tokenizer):
    ids, patches, _ = a_question(tokenizer, "Who?", 2, 84, 4)
    inputs = {"pixel_values_videos": patches.pixel_values, "video_grid_thw": patches.grid_thw[None]}
    written = tiny_model.generate_one(ids[None], **inputs, max_new_tokens=6, do_sample=False, eos_token_id=None)
    with torch.no_grad():
        again = tiny_model(torch.cat([ids, written.ids])[None], **inputs).logits[0, len(ids) - 1 : -1]
        ours = tiny_model.log_probabilities(written.states)
    torch.testing.assert_close(ours, again.log_softmax(-1), rtol=0, atol=1e-4)
    assert ours.argmax(-1).tolist() == written.ids.tolist()


def test_a_cache_goes_on_where_a_padded_prompt_ended(tiny_model, tokenizer):
    """Positions of later tokens count real tokens, not the padding in front of them."""
    short, long = (torch.tensor(chat_format.encode_plain(tokenizer, text)) for text in ("Ab c", "Somewhat longer"))
    ids = torch.stack([torch.nn.functional.pad(short, (len(long) - len(short), 0)), long])
    mask = torch.stack([(torch.arange(len(long)) >= len(long) - len(row)).long() for row in (short, long)])
    after = torch.tensor([[40], [41]])
    with torch.no_grad():
        first = tiny_model(ids, attention_mask=mask, use_cache=True)
        whole = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], dim=1)
        later = tiny_model(after, attention_mask=whole, past_key_values=first.past_key_values)
        alone = tiny_model(torch.cat([short, after[0]])[None])
    torch.testing.assert_close(later.states[0, 0], alone.states[0, -1], rtol=0, atol=1e-4)


def test_sampling_draws_from_the_softmax_and_every_row_from_a_stream_of_its_own():
    logits = torch.tensor([[0.0, 1.0, 2.0, -torch.inf]])
    row = RowDecoding(temperature=0.5, seed=0, max_tokens=1)
    alone, together = Sampling([row], [4]), Sampling([row] * 3, [5, 4, 4])
    draws = torch.tensor([int(alone(torch.empty(1, 0), logits).argmax()) for _ in range(4000)])
    rows = torch.stack([together(torch.empty(3, 0), logits.repeat(3, 1)).argmax(-1) for _ in range(50)])
    assert torch.equal(rows[:, 1], draws[:50])
    assert torch.equal(rows[:, 2], draws[:50]), "a batch changes nothing"
    assert not torch.equal(rows[:, 0], draws[:50])
    found = torch.bincount(draws, minlength=4) / len(draws)
    torch.testing.assert_close(found, (logits[0] / 0.5).softmax(-1), rtol=0, atol=0.02)
