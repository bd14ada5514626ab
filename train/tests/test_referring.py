"""`<|ref|>` and `<|mem|>`: what stands for a place and for a remembered object."""

import pytest
import torch
from transformers.vision_utils import get_vision_window_index

from evqa.models.messages import Message, VideoPart
from unipixel.data import chat_format, frames
from unipixel.model import visual_prompts
from unipixel.model.visual_prompts import PromptPlace, region_cells, window_order

HEIGHT, WIDTH = 5 * 28, 6 * 28  # more than one window of 4 x 4 cells, and not a multiple of it


def a_video(num_frames=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (num_frames, HEIGHT, WIDTH, 3), generator=generator, dtype=torch.uint8).numpy()
    return frames.llm_pixels(images, HEIGHT * WIDTH, HEIGHT * WIDTH)


def inputs_of(tokenizer, patches, text, notes=None):
    encoded = chat_format.encode_conversation(
        tokenizer, [Message("user", (VideoPart(__file__), text))], [patches.num_tokens], notes=notes
    )
    return {
        "input_ids": encoded.input_ids[None],
        "pixel_values_videos": patches.pixel_values,
        "video_grid_thw": patches.grid_thw[None],
    }


def embedded(model, **inputs):
    """What the language model reads [L, D]."""
    seen = []
    hook = model.model.language_model.register_forward_pre_hook(
        lambda _, __, named: seen.append(named["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        model(**inputs)
    hook.remove()
    return seen[0][0]


@pytest.mark.parametrize("size", [(2, 5, 6), (1, 4, 4), (3, 9, 3), (1, 1, 8)])
def test_the_order_of_windows_is_that_of_the_vision_tower(size):
    steps, height, width = size
    grid = torch.tensor([[steps, 2 * height, 2 * width]])
    theirs, _ = get_vision_window_index(grid, spatial_merge_size=2, window_size=112, patch_size=14)
    assert window_order(size, 4).tolist() == torch.as_tensor(theirs).tolist()


@pytest.mark.parametrize("order", ["raster", "window"])
def test_an_object_of_one_cell_is_that_cell_or_the_one_the_released_lookup_hits(tiny_model, tokenizer, order):
    """A new model's `msk_proj` is a copy of the merger, so one cell's `<|mem|>` equals that cell's video token."""
    tiny_model.config.mem_order = order
    patches = a_video()
    size = (2, 5, 6)
    cells = torch.zeros(2, 2, 5, 6, dtype=torch.bool)
    cells[0, 0, 1, 4] = cells[1, 0, 4, 5] = cells[1, 1, 3, 0] = True
    note = chat_format.region_note([[True, True], [False, True]], is_image=False)
    inputs = inputs_of(tokenizer, patches, "Who is [1]?", [note])
    read = embedded(tiny_model, **inputs, regions=[cells])
    ids = inputs["input_ids"][0]
    video = read[ids == tiny_model.config.video_token_id]
    ours = read[ids == tiny_model.config.mem_token_id]
    at = torch.tensor([0 * 30 + 1 * 6 + 4, 1 * 30 + 4 * 6 + 5, 1 * 30 + 3 * 6 + 0])  # object 1 in both steps, object 2
    hit = at if order == "raster" else window_order(size, 4)[at]
    torch.testing.assert_close(ours, video[hit], rtol=0, atol=1e-5)
    assert (order == "raster") == torch.equal(hit, at)


def test_an_object_of_many_cells_is_projected_from_their_mean(tiny_model, tokenizer):
    tiny_model.config.mem_order = "raster"
    patches = a_video(seed=3)
    region = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(1)) > 0.5
    grabbed = []
    hook = tiny_model.model.visual.merger.mlp.register_forward_pre_hook(lambda _, inputs: grabbed.append(inputs[0]))
    inputs = inputs_of(tokenizer, patches, "?", [chat_format.region_note([[True, True]], is_image=False)])
    read = embedded(tiny_model, **inputs, regions=[region])
    hook.remove()
    by_place = {int(place): row for place, row in zip(window_order((2, 5, 6), 4), grabbed[0], strict=True)}
    wanted = []
    for step in range(2):
        chosen = [by_place[step * 30 + int(cell)] for cell in region[step, 0].flatten().nonzero()]
        wanted.append(tiny_model.msk_proj(torch.stack(chosen).mean(0)))
    ours = read[inputs["input_ids"][0] == tiny_model.config.mem_token_id]
    torch.testing.assert_close(ours, torch.stack(wanted), rtol=0, atol=1e-5)


def test_objects_of_a_batch_stand_where_each_alone_would(tiny_model, tokenizer):
    """Also with a sample between that has no region, and places in two of them."""
    rows, videos, regions, places = (
        [],
        [],
        [],
        [PromptPlace(((3.0, 4.0),), 0.0), PromptPlace(((1.0, 2.0), (30.0, 40.0)), 1.0)],
    )
    for number, text in enumerate(["<|ref|>?", "Nothing", "Is <|ref|> [1]?"]):
        has_region = number != 1
        note = [chat_format.region_note([[True, True]], is_image=False) if has_region else ""]
        videos.append(a_video(seed=number))
        rows.append(inputs_of(tokenizer, videos[-1], text, note))
        regions.append(torch.ones(2, 1, 5, 6, dtype=torch.bool) if has_region else None)
    given = [places[:1], [], places[1:]]
    longest = max(row["input_ids"].shape[1] for row in rows)
    ids = [torch.nn.functional.pad(row["input_ids"][0], (longest - row["input_ids"].shape[1], 0)) for row in rows]
    mask = torch.stack([(torch.arange(longest) >= longest - row["input_ids"].shape[1]).long() for row in rows])
    with torch.no_grad():
        together = tiny_model(
            input_ids=torch.stack(ids),
            attention_mask=mask,
            pixel_values_videos=torch.cat([video.pixel_values for video in videos]),
            video_grid_thw=torch.stack([video.grid_thw for video in videos]),
            regions=regions,
            places=places,
        )
        for number, row in enumerate(rows):
            single = tiny_model(**row, regions=[regions[number]], places=given[number])
            ours = together.states[number, -row["input_ids"].shape[1] :]
            torch.testing.assert_close(ours, single.states[0], rtol=0, atol=1e-4)


def test_a_place_keeps_its_pixel_in_a_model_of_16_bits(tiny_model):
    """bfloat16 cannot tell 700 from 701; the encoding of both must still differ as it does in fp32."""
    points = torch.tensor([[[700.5, 300.5]], [[701.5, 300.5]]]) / 768
    exact = tiny_model.ref_encoder.pe_layer(points)
    half = tiny_model.bfloat16()
    assert torch.equal(half.ref_encoder.pe_layer(points), exact)
    assert (exact[0] - exact[1]).abs().max() > 1e-3
    rows = visual_prompts.place_embeddings(
        half, [PromptPlace(((100.0, 20.0),), 0.5), PromptPlace(((101.0, 20.0),), 0.5)]
    )
    assert rows.dtype == torch.bfloat16
    assert not torch.equal(rows[0], rows[1])


def test_a_region_covers_every_cell_that_holds_one_of_its_pixels_in_either_frame():
    masks = torch.zeros(3, 1, 100, 120, dtype=torch.bool)
    masks[0, 0, 0, 0] = masks[1, 0, 99, 119] = masks[2, 0, 50, 60] = True
    cells = region_cells(masks, (2, 5, 6))
    assert cells.shape == (2, 1, 5, 6)
    assert cells[0, 0].nonzero().tolist() == [[0, 0], [4, 5]]
    assert cells[1, 0].nonzero().tolist() == [[2, 3]]


def test_regions_of_another_size_are_refused(tiny_model, tokenizer):
    inputs = inputs_of(tokenizer, a_video(), "?", [chat_format.region_note([[True, True]], is_image=False)])
    with pytest.raises(ValueError, match=r"\(t, h, w\) = \(2, 5, 6\), got \(2, 1, 6, 5\)"):
        tiny_model(**inputs, regions=[torch.ones(2, 1, 6, 5, dtype=torch.bool)])
    cells = torch.zeros(2, 1, 5, 6, dtype=torch.bool)
    cells[0, 0, 0, 0] = True
    with pytest.raises(ValueError, match=r"has 2 <\|mem\|> tokens, but 1 embeddings"):
        tiny_model(**inputs, regions=[cells])


def test_the_note_of_regions_is_the_published_form():
    assert chat_format.region_note([], is_image=False) == ""
    assert chat_format.region_note([[True]], is_image=True) == (
        "Here is an image with the following highlighted regions:\n[1]: <|mem|>\n"
    )
    assert chat_format.region_note([[True, True, False], [False, False, True]], is_image=False) == (
        "Here is a video with 6 frames denoted as <1> to <6>. The highlighted regions are as follows:\n"
        "[1]: <1>-<2> <|mem|> <3>-<4> <|mem|>\n[2]: <5>-<6> <|mem|>\n"
    )
    with pytest.raises(ValueError, match=r"region \[2\] has no pixel"):
        chat_format.region_note([[True], [False]], is_image=False)
