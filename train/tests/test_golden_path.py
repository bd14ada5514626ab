"""The golden cases of upstream through the whole data path: published files -> prepare -> data set -> collate -> model.

The golden batches hold what became of their files, so the files are made from them: pictures from the pixels (which are
8 bits and not resized), masks from the labels (grown to the pictures' size). What the path cannot give is exchanged
for the golden batch's, and is compared in its own way first:

- Words. Ours are our own, so only the golden words, through our tokens and labels, give the golden ids.
- Two turns about one video: no published set has them (each expression of a video is a sample), so this case starts
  at `samples.jsonl`.
- Places. The golden sample points at one object and boxes another, in frames that it drew; ours draws one kind.
"""

import json

import published_layouts as published
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from test_golden import places_of

from evqa import masks
from evqa.datasets.formats import prepare
from evqa.files.jsonl import write_records
from evqa.models.messages import Message, VideoPart
from evqa.schema import Sample, Track, TrainingExchange
from unipixel.configs import DataConfig
from unipixel.data import chat_format, mixture
from unipixel.data.collate import DataCollator
from unipixel.data.dataset import SFTDataset
from unipixel.data.frames import CLIP_MEAN, CLIP_STD
from unipixel.data.mixture import SampleRef
from unipixel.model import checkpoints

SIDE = 128
ASKED = "Please segment object {} in this {}."
REPLY = "Sure, it is <|seg|>."
REFERRED = "Which one is faster, [0] <|ref|> or [1] <|ref|>? Please localize the relevant objects with IDs."


def pictures_of(case):
    """uint8 [T, H, W, 3]: the golden patches put back together, to the grey level."""
    steps, rows, columns = case["in.video_grid_thw"][0].tolist()
    cells = case["in.pixel_values_videos"].view(steps, rows // 2, columns // 2, 2, 2, 3, 2, 14, 14)
    video = cells.permute(0, 6, 1, 3, 7, 2, 4, 8, 5).reshape(steps * 2, rows * 14, columns * 14, 3)
    levels = (video * torch.tensor(CLIP_STD) + torch.tensor(CLIP_MEAN)) * 255
    assert (levels - levels.round()).abs().max() < 1e-3, "the golden pixels are whole grey levels"
    return levels.round().byte().numpy()[: len(case["in.frames.0"])]


def masks_of(case):
    """bool [T, O, H, W]: masks of the pictures' size whose labels are the golden ones (which the test checks)."""
    size = [side * 14 for side in case["in.video_grid_thw"][0, 1:].tolist()]
    return (F.interpolate(case["in.label_mask.0"].float(), size=size, mode="bilinear") > 0.45).numpy()


def write_pictures(folder, pictures, names):
    folder.mkdir(parents=True)
    for name, picture in zip(names, pictures, strict=True):
        Image.fromarray(picture).save(folder / f"{name}.png")


NAMES = [f"{frame:05d}" for frame in range(4)]


def mevis(folder, pictures, found):
    moving = {"exp": "object 0", "obj_id": [0], "anno_id": [7]}
    published.write_json(
        folder / "train" / "meta_expressions.json", published.meta_expressions("a", NAMES, **{"0": moving})
    )
    published.write_json(folder / "train" / "mask_dict.json", {"7": [published.coded(frame[0]) for frame in found]})
    write_pictures(folder / "train" / "JPEGImages" / "a", pictures, NAMES)
    return prepare("mevis", folder).path


def refcoco(folder, pictures, found):
    root = folder / "refer_seg"
    about = published.coco_file("12.png", {1: published.coded(found[0, 0])}, {1: "a"})
    about["images"][0] |= {"height": pictures.shape[1], "width": pictures.shape[2]}
    published.write_json(root / "refcoco" / "instances.json", about)
    sentence = {"sent_id": 0, "sent": "object 0", "tokens": ["object", "0"]}
    reference = {"ref_id": 1, "ann_id": 71, "image_id": 12, "split": "train", "sentences": [sentence]}
    published.write_pickle(root / "refcoco" / "refs(unc).p", [reference], 2)
    write_pictures(root / "images" / "mscoco" / "images" / "train2014", pictures, ["12"])
    return prepare("refcoco", folder).path


def turns(folder, pictures, found):
    write_pictures(folder / "v", pictures, NAMES)
    tracks = tuple(
        Track(label=str(n), masks={i: masks.encode(mask) for i, mask in enumerate(one)})
        for n, one in enumerate(found.swapaxes(0, 1))
    )
    said = tuple(TrainingExchange(question=f"object {n}", targets=(n,)) for n in range(2))
    row = Sample(id="v", video_id="v", video="v", question="object 0", task_type="query", turns=said, tracks=tracks)
    write_records(folder / "samples.jsonl", [row])
    return folder


def videorefer(folder, pictures, found):
    root = folder / "VideoRefer-700K"
    question = "There are two objects: <object0><region>, <object1><region>.\nWhich one is faster?"
    entry = published.refers(question, "<object0>.", [range(4), range(4)]) | {"video": "pool"}
    published.write_json(root / "videorefer-qa-75k-wo-masks.json", [entry])
    lists = [[[published.coded(mask)] for mask in one] for one in found.swapaxes(0, 1)]
    published.write_json(root / "masks_qa" / "0.json", lists)
    write_pictures(root / "videos" / "pool", pictures, NAMES)
    return prepare("videorefer-qa-mem", folder).path


CASES = {
    "seg_1obj_4f": (mevis, [(ASKED.format(0, "video"), REPLY)]),
    "seg_1obj_1f_image": (refcoco, [(ASKED.format(0, "image"), REPLY)]),
    "seg_2obj_4f": (turns, [(ASKED.format(n, "video"), REPLY) for n in range(2)]),
    "mem_ref_2obj_4f": (videorefer, [(REFERRED, "[0] <|seg|> [1] <|seg|>")]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_golden_losses_come_out_of_the_whole_data_path(oracle, oracle_model, tmp_path, name):
    case = load_file(oracle / f"train_{name}.safetensors")
    golden = json.loads((oracle / "golden_train.json").read_text())[f"train_{name}"]
    tokenizer = checkpoints.load_tokenizer(oracle / "tiny_full")
    write, said = CASES[name]
    data = write(tmp_path, pictures_of(case), masks_of(case))
    config = DataConfig(datasets=((str(data), 1.0),), num_frames=4, min_pixels=28 * 28, max_pixels=168 * 224)
    examples = SFTDataset(
        mixture=mixture.load_mixture(config, 0),
        config=config,
        tokenizer=tokenizer,
        side=SIDE,
        time_encoding=oracle_model.config.time_encoding,
    )
    assert oracle_model.config.time_encoding == "fixed-2fps"
    item = next(found for position in range(20) if is_in_order(found := examples[SampleRef(0, 0, position)], case))
    batch = DataCollator(tokenizer.pad_token_id)([item])

    assert torch.equal(batch["video_grid_thw"], case["in.video_grid_thw"])
    torch.testing.assert_close(batch["pixel_values_videos"], case["in.pixel_values_videos"], rtol=0, atol=1e-5)
    torch.testing.assert_close(batch["frames"][0], case["in.frames.0"], rtol=0, atol=1e-4)
    words = chat_format.encode_conversation(tokenizer, messages(said), [int(case["in.video_grid_thw"].prod()) // 4])
    assert torch.equal(words.input_ids[None], case["in.input_ids"])
    assert torch.equal(words.labels[None], case["in.labels"])

    batch |= {"input_ids": words.input_ids[None], "labels": words.labels[None]}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    places = places_of(case)
    assert len(batch.get("places", ())) == len(places)
    batch.pop("skipped")
    with torch.no_grad():
        out = oracle_model(**(batch | {"places": places}))
    assert out.lm_loss.item() == pytest.approx(golden["lm_loss"], rel=1e-5)
    assert out.loss.item() == pytest.approx(golden["loss"], rel=1e-5)


def is_in_order(item, case):
    """The masks are the golden ones; turns and objects come in an order that is drawn."""
    return torch.equal(item["masks"], case["in.label_mask.0"])


def messages(said):
    found = []
    for place, (question, reply) in enumerate(said):
        shown = (VideoPart(__file__),) if place == 0 else ()
        found += [Message("user", (*shown, question)), Message("assistant", (reply,))]
    return found
