"""Small folders in the published layouts of the training sets.

All show one world: `FRAMES` pictures of 40 x 60 pixels in which object 1 is a square that moves to the right and
object 2 one that stands still and is gone from frame 4 on. So the mask of every sample is known.
"""

import csv
import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from evqa import masks, media
from evqa.datasets.registry import DATASETS

FRAMES = 6
SIZE = (40, 60)
"""(H, W)"""
BOTH = (1, 2)


def mask(number, frame):
    """bool [H, W] of an object in a frame."""
    pixels = np.zeros(SIZE, dtype=bool)
    if number == 1:
        pixels[4:14, 5 + 2 * frame : 15 + 2 * frame] = True
    elif frame < 4:
        pixels[24:36, 40:50] = True
    return pixels


def union(frame, numbers=BOTH):
    return np.any([mask(number, frame) for number in numbers], axis=0)


def picture(frame):
    """uint8 [H, W, 3]: object 1 red, object 2 blue."""
    pixels = np.full((*SIZE, 3), 90, dtype=np.uint8)
    pixels[mask(1, frame)], pixels[mask(2, frame)] = (230, 20, 20), (20, 20, 230)
    return pixels


def labels(frame):
    """uint8 [H, W]: the object's number, 0 = none."""
    return (mask(1, frame) + 2 * mask(2, frame)).astype(np.uint8)


def rle(mask_pixels, *, is_bytes=False):
    """COCO run lengths as a file has them; None where the mask is empty."""
    if not mask_pixels.any():
        return None
    coded = masks.encode(mask_pixels)
    return {"size": list(coded.size), "counts": coded.counts.encode() if is_bytes else coded.counts}


def rles(number, frames=range(FRAMES), **kwargs):
    return [rle(mask(number, frame), **kwargs) for frame in frames]


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_pickle(path, value, protocol=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol))


def write_frames(folder, names, suffix=".jpg"):
    folder.mkdir(parents=True, exist_ok=True)
    for frame, name in enumerate(names):
        Image.fromarray(picture(frame)).save(folder / f"{name}{suffix}")


def write_palettes(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for frame, name in enumerate(names):
        image = Image.fromarray(labels(frame), mode="P")
        image.putpalette([0, 0, 0, 230, 20, 20, 20, 20, 230])
        image.save(folder / f"{name}.png")


def write_table(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def only(values):
    """The one sample that a layout holds, of (samples, bad rows)."""
    samples, bad = values
    assert bad == []
    (sample,) = samples
    return sample


NAMES = [f"{frame:05d}" for frame in range(FRAMES)]


def write_gen_mask(folder):
    """ST-Evidence-Instruct, generated masks: a polygon with a hole, by table."""
    row = {
        "entry_id": "clevrer_1",
        "video_path": "clevrer/video_1.mp4",
        "question": "Which object moves?",
        "answer": "the red square",
        "candidates": "['the red square', 'the blue square']",
        "temporal_evidence": "[[0.0, 0.5]]",
    }
    write_table(folder / "st_evidence.csv", row)
    write_frames(folder / "video_frames_6fps" / "clevrer" / "video_1", [f"frame_{i:04d}" for i in range(FRAMES)])
    regions = [{"frame": i, "mask": {"exterior": square(5 + 2 * i, 4, 10), "holes": []}} for i in range(FRAMES)]
    regions[2]["mask"]["holes"] = [square(11, 6, 4)]
    prompt = {"timestamp": 0.0, "bbox_norm": [83, 100, 250, 350], "frame": 0, "confidence": 0.9}
    evidence_object = {"ref_expression": "the red square", "prompts": [prompt], "masks": regions}
    entry = {"entry_id": "clevrer_1", "video_path": "clevrer/video_1.mp4", "fps": 6.0}
    entry |= {"width": SIZE[1], "height": SIZE[0]}
    write_json(folder / "masks" / "clevrer_1.json", entry | {"evidence_objects": [evidence_object]})


def square(x, y, side):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def write_gen_mask_meta(folder, ending=""):
    """The same as a pickle with run lengths of all objects together; the answers may end with a token."""
    entry = {
        "entry_id": "clevrer_1",
        "video_name": "clevrer/video_1",
        "total_frames": FRAMES,
        "question_with_options": "Which objects are there?\nOptions:\n(A) none\n(B) two squares",
        "answer_with_evidence": "Answer: B. Temporal Evidence: [[0.0, 0.3], [0.5, 1.0]]. Spatial Evidence:" + ending,
        "mask_rle_path": "data/st-evidence-instruct/gen_mask/masks_rle/clevrer_1.json",
    }
    write_pickle(folder / "st_evidence_meta.pkl", [entry])
    write_frames(folder / "video_frames_6fps" / "clevrer" / "video_1", [f"frame_{i:04d}" for i in range(FRAMES)])
    runs_per_frame = [[part for number in BOTH if (part := rle(mask(number, i)))] for i in range(FRAMES)]
    write_json(folder / "masks_rle" / "clevrer_1.json", [runs_per_frame])


def vicas_annotation(name, *, has_masks):
    frames = []
    for frame, stem in enumerate(NAMES):
        numbers = [number for number in BOTH if mask(number, frame).any()]
        segmentation = {"filename": f"{stem}.jpg", "is_gt": frame % 3 == 0, "track_ids": numbers}
        frames.append(segmentation | ({"mask_rles": [rle(mask(n, frame)) for n in numbers]} if has_masks else {}))
    referrals = [
        {"prompt": "Which squares are in the video?", "track_ids": [1, 2]},
        {"prompt": "Which square moves?", "track_ids": [1]},
    ]
    return {"video_id": int(name), "filename": f"{name}_x.mp4", "segmentations": frames, "object_referrals": referrals}


def write_vicas(folder, *, has_masks=True):
    """ViCaS, with the masks in the annotation of each video, or in a file per referral."""
    write_json(folder / "splits" / "v1.0" / "train.json", [375])
    write_frames(folder / "video_frames" / "000375", NAMES)
    annotation = vicas_annotation("000375", has_masks=has_masks)
    if has_masks:
        write_json(folder / "annotations" / "v1.0" / "000375.json", annotation)
        return
    write_json(folder / "annotations" / "annotations_wo_masks_v1.0.json", {"000375": annotation})
    for place, numbers in enumerate([BOTH, (1,)]):
        lists = [[rle(mask(number, frame)) for number in numbers] for frame in range(FRAMES)]
        write_json(folder / "masks" / "000375" / f"{place}.json", lists)


QA = {
    "entry_id": "375_0",
    "video_id": "375",
    "video_path": "000375_video.mp4",
    "question": "Which square stands still?",
    "answer": "the blue one",
    "candidates": "['the red one', 'the blue one']",
    "mask_evidence": "[2]",
    "source": "vicas",
    "split": "train",
    "qa_source": "gemini",
    "temporal_evidence": "[[0.0, 0.1]]",
}


def write_gen_qa(folder):
    """ST-Evidence-Instruct, generated questions, in the folder of ViCaS."""
    write_vicas(folder)
    write_table(folder / "st_evidence_vicas.csv", QA, QA | {"entry_id": "375_1", "mask_evidence": "[1, 2]"})


def meta_expressions(name, names, **expressions):
    return {"videos": {name: {"frames": names, "expressions": expressions}}}


def write_revos(folder):
    both = {"exp": "Which squares are here?", "obj_id": [0, 1], "anno_id": [7, 9]}
    moving = {"exp": "The square that moves.", "obj_id": [0], "anno_id": [7]}
    meta = meta_expressions("ovis/a1", NAMES, **{"0": both, "1": moving})
    late = {"exp": "the late square", "obj_id": [0], "anno_id": [11]}
    meta["videos"]["TAO/train/b2"] = {"frames": NAMES, "expressions": {"0": late}}
    write_json(folder / "meta_expressions_train_.json", meta)
    cropped = [None, *rles(1, range(1, 4)), None, None]
    write_json(folder / "mask_dict.json", {"7": rles(1), "9": rles(2), "11": cropped})
    write_frames(folder / "ovis" / "a1", NAMES)
    write_frames(folder / "TAO" / "train" / "b2", NAMES)


def write_mevis(folder):
    moving = {"exp": "square moving right", "obj_id": [3], "anno_id": [50]}
    both = {"exp": "all squares", "obj_id": [3, 4], "anno_id": [50, 51]}
    write_json(folder / "train" / "meta_expressions.json", meta_expressions("c3", NAMES, **{"0": moving, "1": both}))
    write_json(folder / "train" / "mask_dict.json", {"50": rles(1), "51": rles(2)})
    write_frames(folder / "train" / "JPEGImages" / "c3", NAMES)


def write_lvvis(folder):
    names = [f"{10 * frame:05d}" for frame in range(FRAMES)]
    still = {"exp": "blue_square", "obj_id": [1], "anno_id": [2]}
    write_json(folder / "meta_expressions.json", meta_expressions("00001", names, **{"0": still}))
    write_json(folder / "mask_dict.json", {"2": rles(2)})
    write_frames(folder / "train" / "JPEGImages" / "00001", names)


def write_ref_youtube_vos(folder):
    names = [f"{5 * frame:05d}" for frame in range(FRAMES)]
    moving, still = {"exp": "a red square", "obj_id": "1"}, {"exp": "A blue square.", "obj_id": "2"}
    write_json(
        folder / "meta_expressions" / "train" / "meta_expressions.json",
        meta_expressions("003234408d", names, **{"0": moving, "1": still}),
    )
    write_pickle(folder / "mask_dict.pkl", {str(n - 1): rles(n, is_bytes=True) for n in BOTH})
    write_frames(folder / "train" / "JPEGImages" / "003234408d", names)


def write_ref_davis17(folder):
    """With the official palette images instead of a pickle."""
    moving, still = {"exp": "the red square", "obj_id": "1"}, {"exp": "the blue square", "obj_id": "2"}
    write_json(
        folder / "meta_expressions" / "train" / "meta_expressions.json",
        meta_expressions("bear", NAMES, **{"0": moving, "1": still}),
    )
    write_palettes(folder / "DAVIS" / "Annotations" / "480p" / "bear", NAMES)
    write_frames(folder / "DAVIS" / "JPEGImages" / "480p" / "bear", NAMES)


def write_ref_sav(folder):
    """A video of 24 frames a second, every fourth of which has masks."""
    words = {"formated": "A red square that moves to the right.", "video_id": "sav_000001", "obj_id": 0}
    meta = {
        "video_path": "sam_v_full/sav_train/sav_000/sav_000001.mp4",
        "anno_path": "sam_v_full/sav_train/sav_000/sav_000001_manual.json",
        "objects": {"0": words, "1": words | {"formated": "A blue square.", "obj_id": 1}},
    }
    write_json(folder / "Ref-SAV-Min-Ratio-0.3.json", {"sav_000001": meta})
    root = folder / "sav_train" / "sav_000"
    empty = np.zeros(SIZE, dtype=bool)
    frames = [[coded(mask(1, i) if i < 6 else empty), coded(mask(2, i) if i < 6 else empty)] for i in range(6)]
    write_json(root / "sav_000001_manual.json", {"masklet": frames, "masklet_id": [0, 1]})
    media.write_video(root / "sav_000001.mp4", [picture(frame // 4) for frame in range(4 * FRAMES)], 24)


def coded(mask_pixels):
    """Run lengths even of an empty mask, as SA-V writes them."""
    value = masks.encode(mask_pixels)
    return {"size": list(value.size), "counts": value.counts}


def write_groundmore(folder):
    """Frames 1 to 3 have masks."""
    question = {
        "question": "What moves to the right",
        "answer": "The red square",
        "q_type": "Causal",
        "obj_id": "1",
        "action_start": "3:01",
        "action_end": "3:04",
    }
    both = question | {"question": "What is there?", "answer": "Two squares", "obj_id": "1, 2"}
    videos = {"film_0300_0310": {"questions": {"0": question, "1": both}}}
    write_json(folder / "trainval_v2.json", {"videos": videos})
    names = [f"frame_{frame:06d}" for frame in range(FRAMES)]
    place = folder / "annotations" / "film_0300_0310"
    write_frames(place / "images", names)
    write_palettes(place / "masks", names)
    for frame in (0, 4, 5):
        (place / "masks" / f"{names[frame]}.png").unlink()


def conversation_of(*texts):
    return [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(texts)]


def write_llava_instruct(folder):
    about_image = conversation_of("<image>\nWhat is red?", "A square.", "And blue?", "One too.")
    about_video = conversation_of("What moves?\n<video>", "The red square.")
    entries = [
        {"id": "1", "image": "coco/train2017/1.jpg", "conversations": about_image},
        {"id": "1", "video": "activitynet/v.mp4", "conversations": about_video, "duration": 1.0},
        {"id": 3, "conversations": conversation_of("Say hello.", "Hello.")},
    ]
    write_json(folder / "llava_v1_5_mix665k_with_videogpt_plus_576k.json", entries)
    write_frames(folder / "coco" / "train2017", ["1"])
    (folder / "videogpt_plus" / "activitynet").mkdir(parents=True)
    media.write_video(folder / "videogpt_plus" / "activitynet" / "v.mp4", [picture(i) for i in range(FRAMES)], 6)


WRITERS = {
    "st-evidence-instruct": write_gen_mask,
    "st-evidence-instruct-qa": write_gen_qa,
    "revos": write_revos,
    "mevis": write_mevis,
    "lvvis": write_lvvis,
    "ref-youtube-vos": write_ref_youtube_vos,
    "ref-davis17": write_ref_davis17,
    "ref-sav": write_ref_sav,
    "groundmore": write_groundmore,
    "vicas": write_vicas,
    "llava-instruct": write_llava_instruct,
}
"""Data set of the published mixture -> its writer."""


def write_all(root: Path, datasets) -> None:
    """Every set of the mixture where `DATASETS` expects it below a data root."""
    for name, writer in WRITERS.items():
        writer(root / DATASETS[name].folder)


# Image sets


def write_reason_seg(folder):
    root = folder / "reason_seg" / "ReasonSeg"
    write_frames(root / "train", ["a"])
    shapes = [
        {"label": "ignore", "points": square(7, 6, 2)},
        {"label": "target", "points": square(5, 4, 10)},
        {"label": "flag", "points": square(0, 0, 40)},
    ]
    annotation = {"text": ["the thing that would move"], "is_sentence": False, "shapes": shapes}
    write_json(root / "train" / "a.json", annotation)
    reason = {"image": "a.jpg", "query": "What would move?", "outputs": "The red square, since it is red."}
    write_json(root / "explanatory" / "train.json", [reason])


def write_labelled(folder, pictures, place, shift=0, empty=0):
    """Label images with the values of `labels` plus a shift, where there is no object `empty`."""
    write_frames(folder / pictures, ["x"])
    (folder / place).mkdir(parents=True)
    label_map = np.where(labels(0) > 0, labels(0).astype(int) + shift, empty).astype(np.uint8)
    Image.fromarray(label_map).save(folder / place / "x.png")


def write_ade20k(folder):
    write_labelled(folder, "ade20k/images/training", "ade20k/annotations/training")
    (folder / "ade20k" / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tName\n1\t0.1\t3\t4\tred square, box\n2\t0.1\t3\t4\tblue square\n"
    )


def write_cocostuff(folder):
    """Object 1 has label 0, object 2 label 1."""
    write_labelled(folder, "coco/train2017", "cocostuff/train2017", shift=-1, empty=255)
    (folder / "cocostuff" / "labels.txt").write_text("0: unlabeled\n1: person\n2: wall-other\n3: blue square\n")


def write_mapillary(folder):
    write_labelled(folder, "mapillary/training/images", "mapillary/training/v2.0/labels")
    names = ["Unlabeled", "Red Square", "Blue Square"]
    write_json(folder / "mapillary" / "config_v2.0.json", {"labels": [{"readable": name} for name in names]})


def coco_file(file_name, segmentations, names):
    return {
        "images": [{"id": 12, "file_name": file_name, "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [
            {"id": 70 + n, "image_id": 12, "category_id": n, "segmentation": part, "bbox": [0, 0, 1, 1]}
            for n, part in segmentations.items()
        ],
        "categories": [{"id": n, "name": name} for n, name in names.items()],
    }


def flat(corners):
    return [number for corner in corners for number in corner]


def write_paco_lvis(folder):
    parts = {1: [flat(square(5, 4, 10))], 2: rle(mask(2, 0))}
    names = {1: "square_(shape)", 2: "trash_can:inner_side"}
    write_json(folder / "vlpart/paco/annotations/paco_lvis_v1_train.json", coco_file("train2017/12.jpg", parts, names))
    write_frames(folder / "coco" / "train2017", ["12"])


def write_pascal_part(folder):
    names = {1: "dog:leg", 2: "dog"}
    write_json(
        folder / "vlpart/pascal_part/train.json", coco_file("12.jpg", {1: rle(mask(1, 0)), 2: rle(mask(2, 0))}, names)
    )
    write_frames(folder / "vlpart/pascal_part/VOCdevkit/VOC2010/JPEGImages", ["12"])


def write_refer(name, split_by, pictures, protocol):
    def write(folder):
        parts = {1: [flat(square(5, 4, 10))], 2: [rle(mask(2, 0))]}
        write_json(folder / "refer_seg" / name / "instances.json", coco_file("12.jpg", parts, {1: "a", 2: "b"}))

        def reference(n, split, *texts):
            sentences = [
                {"sent_id": place, "sent": words, "tokens": words.split()} for place, words in enumerate(texts)
            ]
            return {"ref_id": n, "ann_id": 70 + n, "image_id": 12, "split": split, "sentences": sentences}

        references = [reference(1, "train", "red one", "left one"), reference(2, "train", "blue one")]
        references += [reference(2, "val", "unseen")]
        write_pickle(folder / "refer_seg" / name / f"refs({split_by}).p", references, protocol)
        write_frames(folder / "refer_seg" / "images" / pictures, ["12"])

    return write


PICTURE_WRITERS = {
    "reason-seg": write_reason_seg,
    "ade20k": write_ade20k,
    "cocostuff": write_cocostuff,
    "mapillary": write_mapillary,
    "paco-lvis": write_paco_lvis,
    "pascal-part": write_pascal_part,
    "refcoco": write_refer("refcoco", "unc", "mscoco/images/train2014", 0),
    "refcoco+": write_refer("refcoco+", "unc", "mscoco/images/train2014", 2),
    "refcocog": write_refer("refcocog", "umd", "mscoco/images/train2014", 4),
    "refclef": write_refer("refclef", "unc", "saiapr_tc-12", 2),
}
"""Image set -> its writer."""


# Sets about marked objects


def refers(question, response, annotated, **fields):
    """An entry of VideoRefer; `annotated` is per object the annotated frames."""
    objects = [{str(frame): {} for frame in frames} for frames in annotated]
    entry = {"id": "v_1", "video": "pool/v.mp4", "ratio": 0.5, "annotation": objects}
    return entry | {"conversations": conversation_of(f"<video>\n{question}", response)} | fields


def write_videorefer(folder, file, masks, entry, numbers):
    root = folder / "VideoRefer-700K"
    write_json(root / file, [entry])
    frames = sorted({int(frame) for frame_masks in entry["annotation"] for frame in frame_masks})
    lists = [
        [[rle(mask(n, f))] if str(f) in frame_masks else [None] for f in frames]
        for n, frame_masks in zip(numbers, entry["annotation"], strict=True)
    ]
    write_json(root / masks / "0.json", lists)
    (root / "videos" / "pool").mkdir(parents=True, exist_ok=True)
    media.write_video(root / "videos" / "pool" / "v.mp4", [picture(i) for i in range(FRAMES)], 6)


QA_WORDS = "There are two objects: <object0><region>, <object1><region>.\nDoes <object0> pass <object1>?"


def write_videorefer_short_caption(folder):
    entry = refers("What is <region>?", "A red square.", [[2]], ratio=0.1)
    write_videorefer(folder, "videorefer-short-caption-500k-wo-masks.json", "masks_short_caption", entry, (1,))


def write_videorefer_detailed_caption(folder):
    entry = refers("Describe <region>.", "It is red and moves.", [[1, 2, 5]])
    write_videorefer(folder, "videorefer-detailed-caption-125k-wo-masks.json", "masks_detailed_caption", entry, (1,))


def write_videorefer_qa(folder):
    entry = refers(QA_WORDS, "No, <object0> does not.", [[0, 3], [3]])
    write_videorefer(folder, "videorefer-qa-75k-wo-masks.json", "masks_qa", entry, (1, 2))


def write_inst_it_image(folder):
    root = folder / "Inst-IT-Dataset"
    masks_by_number = {str(n): {"mask": rle(mask(n, 0))} for n in BOTH}
    captions = {"1": {"short": "a red square", "long": "x"}, "2": {"short": "a blue square", "long": "x"}}
    entry = {"image_id": "i7", "image_path": "images_vpt/i7.jpg", "instance_level_caption": captions}
    write_json(root / "inst_it_dataset_image_51k_w_mask.json", [entry | {"segmentations": masks_by_number}])
    write_frames(root / "images_raw", ["i7"])


def write_inst_it_video(folder):
    root = folder / "Inst-IT-Dataset"
    masks_by_frame = {
        f"{i}.jpg": {str(n): {"mask": rle(mask(n, i))} for n in BOTH if mask(n, i).any()} for i in range(FRAMES)
    }
    pairs = [
        {"question": "What does [01] do at <0>?", "answer": "It moves away from [2]."},
        {"question": "How is the light?", "answer": "Even."},
    ]
    entry = {
        "video_id": "w3",
        "video_path": "videos_vpt/w3",
        "question_answer_pairs": pairs,
        "segmentations": masks_by_frame,
    }
    write_json(root / "inst_it_dataset_video_21k_w_mask.json", [entry])
    write_frames(root / "videos_raw" / "w3", [str(i) for i in range(FRAMES)])


def write_osprey(folder, file, pictures, **words):
    regions = [{"segmentation": [flat(square(5, 4, 10))]}, {"segmentation": rle(mask(2, 0))}]
    entry = {"id": "o1", "file_name": "o1.jpg", "height": SIZE[0], "width": SIZE[1], "annotation": regions}
    write_json(folder / "Osprey-724K" / file, [entry | words])
    write_frames(folder / pictures, ["o1"])


def write_osprey_conversation(folder):
    turns = conversation_of("What is <region1>?", "A square.", "Where is <Region 2]?", "Below <region1>.")
    write_osprey(folder, "osprey_conversation.json", "coco/train2014", conversations=turns)


def write_osprey_pos_neg(folder):
    turns = conversation_of("Is <region2> a dog?", "No.")
    write_osprey(folder, "osprey_lvis_positive_negative.json", "coco/imgs", conversations=turns)


def write_osprey_detail_description(folder):
    lines = ["<region1>: A red square at the left.", "<regin 2>: A blue one."]
    write_osprey(folder, "osprey_detail_description.json", "coco/train2014", description=lines)


MARKED_WRITERS = {
    "videorefer-short-caption": write_videorefer_short_caption,
    "videorefer-detailed-caption": write_videorefer_detailed_caption,
    "videorefer-qa": write_videorefer_qa,
    "videorefer-qa-mem": write_videorefer_qa,
    "inst-it-image": write_inst_it_image,
    "inst-it-video-qa": write_inst_it_video,
    "inst-it-video-qa-mem": write_inst_it_video,
    "osprey-conversation": write_osprey_conversation,
    "osprey-pos-neg": write_osprey_pos_neg,
    "osprey-detail-description": write_osprey_detail_description,
}
"""Set about marked objects -> its writer."""


# Long videos


LVBENCH_VIDEOS = [
    {
        "key": "-abc_DEF123",
        "type": "cartoon",
        "qa": [
            {
                "uid": "7",
                "question": "What does the mouse do?\n(A) eat\n(B) run\n(C) hide\n(D) sing",
                "answer": "B",
                "question_type": ["event understanding", "reasoning"],
                "time_reference": "00:02-00:04",
            },
            {
                "uid": "8",
                "question": "When does it snow?\n(A) at the start\n(B) never\n(C) twice\n(D) at the end",
                "answer": "D",
                "question_type": ["temporal grounding"],
                "time_reference": "01:00:00-01:00:00",
            },
        ],
        "video_info": {"duration_minutes": 60.5, "fps": 25.0, "resolution": {"width": 640, "height": 360}},
    },
    {
        "key": "ghi",
        "type": "live",
        "qa": [
            {
                "uid": "9",
                "question": "Who wins?\n(A) red\n(B) blue\n(C) green\n(D) no one",
                "answer": "A",
                "question_type": ["entity recognition"],
                "time_reference": "00:00-00:01",
            }
        ],
        "video_info": {"duration_minutes": 0.1, "fps": 25.0, "resolution": {"width": 640, "height": 360}},
    },
]


def write_lines(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values))


def write_lvbench(folder):
    """LVBench as published, a video as a file and one as a folder of frames, numbered from 1."""
    write_lines(folder / "video_info.meta.jsonl", LVBENCH_VIDEOS)
    write_frames(folder / "frames" / "ghi", [f"frame_{number}" for number in range(1, FRAMES + 1)])
    (folder / "videos").mkdir()
    (folder / "videos" / "-abc_DEF123.mp4").touch()


def write_lvbench_flat(folder):
    """The same as a list with an entry a question."""
    write_lvbench(folder)
    (folder / "video_info.meta.jsonl").unlink()
    rows = [
        {"key": video["key"], "video_info": video["video_info"], **question}
        for video in LVBENCH_VIDEOS
        for question in video["qa"]
    ]
    write_json(folder / "lvbench.json", rows)


SEARCH_QUESTIONS = [
    {
        "question": "Which cup is red first and blue later?",
        "answer": "The small cup.",
        "category": "State_Mutation",
        "hop_level": "2-Hop",
        "evidence_slices": [1, 4],
        "reasoning_chain": "Step 1: Slice 1 shows a red cup. Step 2: Slice 4 shows it in blue.",
    },
    {
        "question": "What do all clips show?",
        "answer": "A square",
        "category": "Global_Summary",
        "hop_level": "3-Hop",
        "evidence_slices": [1, 2, 3],
        "reasoning_chain": "Step 1: ...",
    },
]


def write_longvidsearch(folder):
    """LongVidSearch as on the Hub: a video of a second in four slices, and one that is not there."""
    rows = [{"vid": "v1", **row} for row in SEARCH_QUESTIONS] + [{"vid": "-v2", **SEARCH_QUESTIONS[0]}]
    write_json(folder / "full-QA(3000).json", rows)
    (folder / "video_embeddings").mkdir()
    np.save(folder / "video_embeddings" / "frame_embeddings_v1.npy", np.zeros((4, 1024), np.float32))
    (folder / "videos").mkdir()
    media.write_video(folder / "videos" / "v1.mp4", [picture(i) for i in range(FRAMES)], 6)


def write_longvidsearch_per_video(folder):
    """The same as in the repository, without embeddings."""
    write_json(folder / "dataset" / "v1_qa.json", SEARCH_QUESTIONS)
    write_json(folder / "dataset" / "-v2_qa.json", SEARCH_QUESTIONS[:1])


SIMPLEQA = [
    {
        "date": "2009-06-02",
        "QA_Pair_1_Question": "What type of event is it?",
        "QA_Pair_1_Answer": "An eclipse",
        "QA_Pair_2_Question": "In which year was the last eclipse before 1930?",
        "QA_Pair_2_Answer": "1929",
        "Multi_hop_Question": "In which year was the last event of this type before 1930?",
        "Multi_hop_Answer": "1929",
    },
    {
        "date": "2009-06-13",
        "QA_Pair_1_Question": "Which bridge is it?",
        "QA_Pair_1_Answer": "Long Bridge",
        "QA_Pair_2_Question": "In which city is Long Bridge?",
        "QA_Pair_2_Answer": "Smalltown",
        "QA_Pair_3_Question": "How many bridges has Smalltown?",
        "QA_Pair_3_Answer": "3",
        "Multi_hop_Question": "How many bridges has the city of the bridge in the video?",
        "Multi_hop_Answer": "3",
    },
]


def write_video_simpleqa(folder):
    """Video SimpleQA: a video as a file, and one as a folder of frames."""
    write_json(folder / "data" / "VideoSimpleQA.json", SIMPLEQA)
    (folder / "videos").mkdir()
    (folder / "videos" / "2009-06-02.mp4").touch()
    write_frames(folder / "frames_32" / "2009-06-13", NAMES)
