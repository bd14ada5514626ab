"""Small models and the golden tensors that the tests share."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2].parent / "shared"

ORACLE_SIZES = {
    "embed": 16,
    "heads": 1,
    "blocks": [1, 1, 2, 1],
    "global_blocks": [3],
    "hidden": 64,
    "memory": 16,
    "memory_layers": 2,
    "memory_feed_forward": 128,
    "dropout": 0.0,
}
"""The golden model's decoder (sam2_tiny.json): its config.json names a size that only exists there."""

PERF = Path(__file__).resolve().parents[2] / "benchmark" / "perf"


@pytest.fixture(scope="session")
def perf():
    """Gives a module of benchmark/perf, which is no package."""
    return _perf_module


def _perf_module(name):
    spec = importlib.util.spec_from_file_location(name, PERF / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def oracle() -> Path:
    folder = SHARED / "oracles" / "unipixel"
    if not folder.is_dir():
        pytest.skip(f"the golden tensors are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def media_folder() -> Path:
    folder = SHARED / "media"
    if not folder.is_dir():
        pytest.skip(f"the clips are not at {folder}")
    return folder


@pytest.fixture(scope="session")
def oracle_config(oracle):
    from unipixel.model.config import UniPixelConfig

    return UniPixelConfig.from_pretrained(oracle / "tiny_full", sam2_sizes=ORACLE_SIZES)


@pytest.fixture(scope="session")
def oracle_model(oracle, oracle_config, tmp_path_factory):
    """The model of the golden training cases, in evaluation mode."""
    from unipixel.model import checkpoints

    folder = tmp_path_factory.mktemp("oracle")
    (folder / "model.safetensors").symlink_to(oracle / "weights_tiny.safetensors")
    oracle_config.save_pretrained(folder)
    return checkpoints.load_checkpoint(folder)


@pytest.fixture(scope="session")
def published_config(perf):
    """The config of a published size."""
    from unipixel.model.config import UniPixelConfig

    sizes = perf("gpu").TEXT

    def config(size):
        is_tied = size == "3B"
        return UniPixelConfig(
            text_config=sizes[size.lower()] | {"tie_word_embeddings": is_tied},
            vision_config={
                "hidden_size": 1280,
                "intermediate_size": 3420,
                "out_hidden_size": sizes[size.lower()]["hidden_size"],
                "tokens_per_second": 2,
            },
            sam2_config="configs/sam2.1_hiera_b+",
            tie_word_embeddings=is_tied,
        )

    return config


@pytest.fixture(scope="session")
def tokenizer():
    """A tokenizer of single characters with the special tokens of the published one."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from tiny_base.vocabulary import SPECIAL

    characters = [chr(code) for code in range(32, 127)] + ["\n"]
    vocabulary = {text: index for index, text in enumerate([*SPECIAL, *characters])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<|endoftext|>", eos_token="<|im_end|>", unk_token="?"
    )


@pytest.fixture
def tiny_config(tokenizer):
    """Config of a model of two layers with the tiny decoder."""
    return make_tiny_config(tokenizer)


def make_tiny_config(tokenizer):
    from unipixel.model.config import UniPixelConfig

    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("ref", "seg", "mem")}
    return UniPixelConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [1],
            "tokens_per_second": 2,
        },
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        sam2_config="tiny",
        sam2_image_size=128,
        sample_frames=6,
        min_pixels=84 * 84,
        max_pixels=84 * 84,
        tie_word_embeddings=True,
        **ids,
    )


@pytest.fixture
def tiny_model(tiny_config):
    """A random model of that config; its decoder has torch's own weights, so that its masks are not flat."""
    return make_tiny_model(tiny_config)


@pytest.fixture(scope="session")
def tiny_checkpoint(tokenizer, tmp_path_factory) -> Path:
    """That model on disk."""
    from unipixel.model import checkpoints

    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoints.save_checkpoint(make_tiny_model(make_tiny_config(tokenizer)), folder, tokenizer)
    return folder


def make_tiny_model(tiny_config):
    from unipixel.model.unipixel import UniPixel

    torch.manual_seed(0)
    model = UniPixel(tiny_config)
    model.start_new_parts()
    model.sam2.start_from_scratch()
    return model.eval()


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """Eight clips in which a red and a blue square drift; evidence is one of them, as track or PNG files."""
    import numpy as np

    from evqa import masks, media
    from evqa.files.jsonl import write_records
    from evqa.schema import Sample, Span, Track

    folder = tmp_path_factory.mktemp("squares")
    (folder / "videos").mkdir()
    samples = []
    for number in range(8):
        num_frames, fps = 10 + number, 5
        places = {"red": (16 + 4 * number, 20), "blue": (70, 90 - 4 * number)}
        colours = {"red": (220, 30, 30), "blue": (30, 30, 220)}
        frames = np.full((num_frames, 128, 160, 3), 128, dtype=np.uint8)
        drawn = {name: np.zeros((num_frames, 128, 160), dtype=bool) for name in places}
        for index in range(num_frames):
            for name, (x, y) in places.items():
                drawn[name][index, y : y + 24, x + index : x + index + 24] = True
                frames[index][drawn[name][index]] = colours[name]
        media.write_video(folder / "videos" / f"{number}.mp4", frames, fps)
        name = ("red", "blue")[number % 2]
        has_tracks = number < 6
        track = Track(label=name, masks={index: masks.encode(mask) for index, mask in enumerate(drawn[name])})
        if not has_tracks:
            masks.write_folder(folder / "masks" / str(number), enumerate(drawn[name]))
        samples.append(
            Sample(
                id=f"square-{number}",
                video_id=str(number),
                video=Path(f"videos/{number}.mp4"),
                question="Which square is asked for?",
                options=("red", "blue"),
                answer=number % 2,
                spans=(Span(0.0, 1.0),),
                tracks=(track,) if has_tracks else None,
                masks=None if has_tracks else Path(f"masks/{number}"),
            )
        )
    write_records(folder / "samples.jsonl", samples)
    return folder


@pytest.fixture
def video(tmp_path):
    """Nine frames of a white square that moves over black, 4 a second."""
    import numpy as np

    from evqa import media

    images = np.zeros((9, 48, 64, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        image[10:30, 4 * index : 4 * index + 20] = 255
    path = tmp_path / "square.mp4"
    media.write_video(path, images, fps=4)
    return path


@pytest.fixture
def square():
    """The square of the video by its masks."""
    import numpy as np

    from evqa import masks
    from evqa.schema import Track

    drawn = np.zeros((9, 48, 64), dtype=bool)
    for index, mask in enumerate(drawn):
        mask[10:30, 4 * index : 4 * index + 20] = True
    return Track(masks={index: masks.encode(mask) for index, mask in enumerate(drawn)})


@pytest.fixture
def speaker(tiny_model, tokenizer, tmp_path):
    """Makes a chat model that writes the same text after any question, whose objects are always there."""
    from unipixel.inference.chat import load_chat
    from unipixel.model import checkpoints

    def make(text, **arguments):
        model = tiny_model
        config = model.config
        config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
        ids = [tokenizer.convert_tokens_to_ids("<|seg|>") if c == "#" else tokenizer(c)["input_ids"][0] for c in text]
        with torch.no_grad():
            model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
            model.model.language_model.embed_tokens.weight[:, :2] = 0.0
            for number, token in enumerate(ids):
                model.lm_head.weight[token, 0] = 1.0 / (number + 1)
            model.model.language_model.embed_tokens.weight[:, 0] = 50.0
            model.sam2.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(20.0)
        folder = tmp_path / "checkpoint"
        checkpoints.save_checkpoint(model, folder, tokenizer)
        return load_chat(checkpoint=str(folder), **{"max_new_tokens": 2, "num_frames": 4, **arguments})

    return make
