import pytest
import torch

from unipixel.model import time_positions

VIDEO = 6  # id of <|video_pad|> in the test tokenizer
TEXT = 20


def ids(*runs):
    """Text and video runs as one row: ints are text tokens, lists [n] are n video tokens."""
    row = []
    for run in runs:
        row += [VIDEO] * run[0] if isinstance(run, list) else [TEXT] * run
    return torch.tensor([row])


@pytest.fixture
def config(tiny_config):
    assert tiny_config.video_token_id == VIDEO
    return tiny_config


def test_legacy_positions_step_by_two_and_text_goes_on_behind_the_largest(config):
    grid = torch.tensor([[3, 4, 2]])  # 3 steps of 2 x 1 merged cells
    placed = time_positions.time_positions(config, ids(2, [6], 3), video_grid_thw=grid)
    assert placed.ids.dtype == torch.int64
    assert placed.ids[0, 0].tolist() == [0, 1, 2, 2, 4, 4, 6, 6, 7, 8, 9]
    assert placed.ids[1, 0].tolist() == [0, 1, 2, 3, 2, 3, 2, 3, 7, 8, 9]
    assert placed.ids[2, 0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2, 7, 8, 9]
    assert placed.offset.tolist() == [[-1]], "the next token stands at 10 = 11 tokens - 1"


def test_text_goes_on_behind_a_wide_frame_rather_than_behind_a_short_time(config):
    placed = time_positions.time_positions(config, ids(1, [16], 1), video_grid_thw=torch.tensor([[1, 4, 16]]))
    assert placed.ids[:, 0, -1].tolist() == [9, 9, 9]


def test_legacy_ignores_the_true_times(config):
    grid = torch.tensor([[2, 2, 2]])
    slow = time_positions.time_positions(config, ids(1, [2], 1), video_grid_thw=grid, frame_times=[[0.0, 10.0]])
    assert slow.ids[0, 0].tolist() == [0, 1, 3, 4]


def test_true_positions_are_seconds_times_two_in_floats(config):
    config.time_encoding = "absolute"
    grid = torch.tensor([[2, 2, 2]])
    placed = time_positions.time_positions(
        config, ids(1, [2], 2), video_grid_thw=grid, frame_times=[[0.0, 0.5, 2.0, 2.2]]
    )
    assert placed.ids.dtype == torch.float32
    assert placed.ids[0, 0].tolist() == pytest.approx([0, 1.5, 5.2, 7, 8])
    assert placed.offset.item() == 4


def test_grid_times_are_means_of_pairs_and_an_odd_last_frame_stands_alone():
    assert time_positions.grid_times([0.0, 1.0, 4.0]).tolist() == [0.5, 4.0]
    assert time_positions.grid_times([3.0]).tolist() == [3.0]


def test_the_same_moment_has_the_same_distance_from_the_video_start_however_it_is_sampled(config):
    config.time_encoding = "absolute"
    dense = time_positions.time_positions(config, ids(3, [8]), None, torch.tensor([[8, 2, 2]]), [torch.arange(8) * 1.5])
    sparse = time_positions.time_positions(
        config, ids(3, [4]), None, torch.tensor([[4, 2, 2]]), [torch.arange(4) * 3.0]
    )
    assert dense.ids[0, 0, 3 + 6] == sparse.ids[0, 0, 3 + 3] == 3 + 2 * 9.0


def test_with_a_horizon_text_stands_at_one_distance_for_every_shorter_video(config):
    config.time_encoding, config.clock_horizon = "absolute", 20.0
    for seconds in ([0.0, 3.0], [0.0, 19.0]):
        placed = time_positions.time_positions(
            config, ids(1, [2], 1), None, torch.tensor([[2, 2, 2]]), [torch.tensor(seconds)]
        )
        assert placed.ids[0, 0, -1] == 1 + 40 + 1
        assert placed.ids[0, 0, -1] - placed.ids[0, 0, 2] == 41 - 2 * seconds[1]
    beyond = time_positions.time_positions(
        config, ids(1, [2], 1), None, torch.tensor([[2, 2, 2]]), [torch.tensor([0.0, 30.2])]
    )
    assert beyond.ids[0, 0, -1] == 1 + 61 + 1


def test_padding_on_either_side_moves_nothing(config):
    row = ids(2, [2], 2)
    grid = torch.tensor([[2, 2, 2]])
    plain = time_positions.time_positions(config, row, None, grid)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), row, torch.zeros(1, 1, dtype=torch.long)], dim=1)
    mask = torch.tensor([[0] * 3 + [1] * 6 + [0]])
    placed = time_positions.time_positions(config, padded, mask, grid)
    assert torch.equal(placed.ids[:, :, 3:9], plain.ids)


def test_two_samples_and_two_videos_each_count_for_themselves(config):
    row = ids(1, [2], 1, [1], 1)[0]
    grids = torch.tensor([[2, 2, 2], [1, 2, 2]] * 2)
    placed = time_positions.time_positions(config, torch.stack([row, row]), None, grids)
    assert torch.equal(placed.ids[:, 0], placed.ids[:, 1])
    assert placed.ids[0, 0].tolist() == [0, 1, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("row", "grid", "times", "message"),
    [
        (ids(1, [3]), [[2, 2, 2]], None, "a run of 3 video tokens came, expected 2"),
        (ids(1), [[2, 2, 2]], None, "more videos than runs"),
        (ids(1, [2]), [], None, "expected no further video"),
        (ids(1, [2]), [[2, 2, 2]], [torch.zeros(7)], "7 came"),
    ],
)
def test_what_does_not_fit_together_is_refused(config, row, grid, times, message):
    config.time_encoding = "absolute" if times else "fixed-2fps"
    with pytest.raises(ValueError, match=message):
        time_positions.time_positions(config, row, None, torch.tensor(grid).view(-1, 3), times)


def test_the_true_clock_refuses_to_guess_times(config):
    config.time_encoding = "absolute"
    with pytest.raises(ValueError, match="needs frame_times"):
        time_positions.time_positions(config, ids(1, [2]), None, torch.tensor([[2, 2, 2]]))


def test_float_positions_survive_a_bfloat16_model(tiny_model, config):
    """The rotary angles of a bf16 model come from fp32 positions: 100.3 s is not rounded to 100 s."""
    model = tiny_model.to(torch.bfloat16)
    positions = torch.full((3, 1, 1), 200.6)
    states = torch.zeros(1, 1, 64, dtype=torch.bfloat16)
    cos, _ = model.model.language_model.rotary_emb(states, positions)
    assert cos[0, 0, 0].item() == pytest.approx(torch.tensor(200.6).cos().item(), abs=4e-3)


@pytest.mark.parametrize("name", ["fixed-2fps", "absolute"])
def test_generation_with_a_cache_equals_reading_everything_again(tiny_model, name):
    tiny_model.config.time_encoding, tiny_model.config.clock_horizon = name, 8.0
    torch.manual_seed(3)
    row = ids(4, [9], 5)
    inputs = {
        "pixel_values_videos": torch.randn(36, 1176),
        "video_grid_thw": torch.tensor([[1, 6, 6]]),
        "frame_times": [[0.0, 2.6]],
    }
    written = tiny_model.generate_one(row, **inputs, do_sample=False, max_new_tokens=5, eos_token_id=None)
    whole = torch.cat([row, written.ids[None]], dim=1)
    with torch.no_grad():
        logits = tiny_model(whole, **inputs).logits
    assert logits[0, row.shape[1] - 1 : -1].argmax(-1).tolist() == written.ids.tolist()
    assert len(written.ids) == 5
