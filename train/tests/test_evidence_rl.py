"""Evidence RL: rewards of crafted replies, advantages, shared prompts, and training of the adapter alone."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evqa import datasets, prompts
from evqa.models.messages import Message, VideoPart
from evqa.schema import Sample, Span
from unipixel import sft
from unipixel.configs import RewardConfig
from unipixel.inference.chat import UniPixelChat
from unipixel.model import checkpoints, replies
from unipixel.rl import evidence_evaluation, evidence_replies, evidence_rewards, evidence_training
from unipixel.rl.evidence_replies import ReplySettings
from unipixel.rl.evidence_rewards import NO_REWARD, EvidenceReward, mask_score, reply_parts, reply_reward
from unipixel.training import build, checkpoint_folder
from unipixel.training.plan import plan_training

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "model_zoo" / "tiny"

SAMPLE = Sample(
    id="q",
    video_id="v",
    video=Path("v.mp4"),
    question="Which acts first?",
    options=("red", "blue", "green"),
    answer=1,
    spans=(Span(1.0, 2.0), Span(5.0, 6.0)),
)


# Rewards


def reward_of(text, mask=0.8, *, has_ended=True):
    return reply_reward(text, SAMPLE, mask, has_ended=has_ended)


def test_the_target_has_the_full_reward():
    text = prompts.evidence_target(1, SAMPLE.spans)
    assert reward_of(text, 1.0) == EvidenceReward(1.0, 1.0, 1.0, 1.0, 2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Answer: B. Answer: A. Temporal Evidence: [[1.0, 2.0]]. Spatial Evidence: <|seg|>.",
        "Answer: A or B. Temporal Evidence: [[1.0, 2.0]]. Spatial Evidence: <|seg|>.",
        "Answer: B. Temporal Evidence: [[1.0, 2.0]]. Temporal Evidence: [[5.0, 6.0]]. Spatial Evidence: <|seg|>.",
        "Answer: B. Temporal Evidence: [[1.0, 2.0]]. Spatial Evidence: <|seg|><|seg|>.",
        "Answer: B. Temporal Evidence: [[1.0, 2.0]]. Spatial Evidence: .",
        "Options:\n(A) red\n(B) blue\nAnswer: B. Temporal Evidence: [[1.0, 2.0]]. Spatial Evidence: <|seg|>.",
        "Answer: B. Temporal Evidence: [[1.0, 2.0]]. Spatial Evidence: <|seg|>. The answer is A.",
        f"{prompts.evidence_target(0, SAMPLE.spans)} {prompts.evidence_target(1, SAMPLE.spans)}",
    ],
)
def test_a_reply_of_another_form_has_no_reward(text):
    assert reward_of(text) == NO_REWARD
    assert reply_parts(text) is None


def test_a_reply_that_does_not_end_has_no_reward():
    assert reward_of(prompts.evidence_target(1, SAMPLE.spans), has_ended=False) == NO_REWARD


@pytest.mark.parametrize(
    ("spans", "time"),
    [
        (((0.0, 8.0),), 0.25),  # the whole video
        (((1.0, 2.0),), 0.5),
        (((1.0, 2.0), (1.0, 2.0), (1.0, 2.0)), 0.5),  # repeated
        (((1.0, 2.0), (5.0, 6.0), (0.0, 1000.0)), 0.002),  # beyond the end
        (((3.0, 4.0),), 0.0),
        ((), 0.0),
    ],
)
def test_time_is_the_iou_of_the_merged_spans(spans, time):
    reward = reward_of(prompts.evidence_target(0, tuple(Span(*span) for span in spans)))
    assert reward.time == pytest.approx(time)
    assert (reward.answer, reward.masks, reward.format) == (0.0, 0.8, 1.0)


def test_empty_and_full_masks_earn_nothing_or_little():
    gold = np.zeros((3, 40, 40), dtype=bool)
    gold[0, 10:20, 10:20] = True
    empty, full = np.zeros_like(gold), np.ones_like(gold)
    assert mask_score(empty, gold) == 0
    assert mask_score(full, gold) < 0.05
    assert mask_score(gold, gold) == 1
    assert mask_score(empty, empty) == 0, "frames without evidence reward nothing"
    assert mask_score(np.concatenate([gold[:1], full[1:]]), gold) == pytest.approx(1 / 3), "a mask without evidence"


# Advantages


def test_the_advantage_of_a_part_leaves_out_what_precedes_it_and_the_reply_itself():
    group = [EvidenceReward(1, 0.5, 0.2, 1, 1), EvidenceReward(0, 0.1, 0.6, 1, 1), EvidenceReward(1, 0.9, 1.0, 1, 2)]
    weights = RewardConfig(format=0.0)
    values = evidence_rewards.advantages([group], weights, "group")[0]
    to_go = np.array([[1.7, 0.7, 0.2], [0.7, 0.7, 0.6], [2.9, 1.9, 1.0]])
    expected = to_go - (to_go.sum(0) - to_go) / 2
    assert values == pytest.approx(expected)
    by_spans = evidence_rewards.advantages([group], weights, "spans")[0]
    assert by_spans[:, 0] == pytest.approx(expected[:, 0])
    assert by_spans[:, 1:] == pytest.approx(np.array([[0.0, -0.4], [0.0, 0.4], [0.0, 0.0]]))


def test_the_parts_of_a_reply_end_behind_the_letter_and_behind_the_spans(tokenizer):
    from unipixel.data import chat_format

    text = prompts.evidence_target(1, (Span(1.0, 2.0), Span(3.0, 4.0)))
    ids = chat_format.encode_plain(tokenizer, text)
    answer, spans = evidence_replies.part_lengths(tokenizer, ids, reply_parts(text))
    pieces = [evidence_replies.reply_text(tokenizer, part) for part in (ids[:answer], ids[answer:spans], ids[spans:])]
    assert pieces[0].endswith("B")
    assert pieces[1].startswith(". ")
    assert "4.0" in pieces[1]
    assert "<|seg|>" in pieces[2]


def test_the_tokens_behind_spans_decide_their_number(tokenizer):
    from unipixel.data import chat_format

    text = prompts.evidence_target(1, (Span(1.0, 2.0), Span(3.0, 4.0)))
    places = evidence_rewards.span_ends(text)
    assert [text[slice(*place)] for place in places] == ["], [", "]]"]
    assert evidence_rewards.span_ends(prompts.evidence_target(1, ())) == []
    ids = chat_format.encode_plain(tokenizer, text)
    indices = evidence_replies.tokens_at(tokenizer, ids, places)
    assert evidence_replies.reply_text(tokenizer, [ids[index] for index in indices]).startswith("], []]")


# Training


@pytest.fixture(scope="module")
def flags(squares):
    text = f"""tiny base --recipe evidence-rl --weights {TINY} --datasets {squares} 1 --num-frames 6 --mask-frames 2
    --per-device-batch-size 2 --global-batch 2 --max-steps 2 --save-steps 1 --logging-steps 1 --rank 4 --alpha 8
    --group-size 3 --max-reply-tokens 24 --learning-rate 0.01 --warmup-ratio 0 --tensorboard False --eval-data None
    --num-workers 0 --save-total-limit 5"""
    return text.split()


@pytest.fixture(scope="module")
def trainer(flags, tmp_path_factory):
    job = plan_training(sft.parse([*flags, "--out", str(tmp_path_factory.mktemp("trainer"))]).config, 1)
    return build.build_trainer(job, is_saving=False, kind=evidence_training.EVIDENCE)


@pytest.fixture(scope="module")
def batch(trainer):
    """Two questions, the second with a token less, so that its prompt is padded."""
    first, second = [trainer.train_dataset[draw] for draw in trainer.train_dataset.examples.mixture.order(2)]
    ids = second.example["input_ids"]
    shorter = {**second.example, "input_ids": torch.cat([ids[:-6], ids[-5:]])}
    return trainer.data_collator([first, second._replace(example=shorter)])


def test_a_shared_prompt_gives_the_log_probabilities_and_gradients_of_whole_rows(trainer, batch):
    assert not batch["attention_mask"].all()
    model = trainer.trained.get_base_model()
    with torch.no_grad():
        for name, weight in trainer.trained.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    embedded = replies.embed_prompts(model, batch)
    sampled = evidence_replies.sample_replies(model.eval(), embedded, 3, trainer.settings, range(6))
    assert not torch.equal(sampled.ids[0], sampled.ids[1])
    gradients = []
    for is_shared in (True, False):
        trainer.trained.zero_grad()
        logits = trainer.trained(replies=replies.ReplyBatch(embedded, sampled.ids, is_shared)).logits
        values = trainer.settings.log_probabilities(logits, sampled.ids)
        assert ((values - sampled.log_probabilities) * sampled.is_token).abs().max() < 1e-4
        (values * sampled.is_token).sum().backward()
        gradients.append([w.grad.clone() for w in trainer.trained.parameters() if w.grad is not None])
    assert len(gradients[0]) == len([w for w in trainer.trained.parameters() if w.requires_grad])
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def test_greedy_replies_are_those_of_the_chat_model(squares):
    model, tokenizer = checkpoints.load_checkpoint(TINY, dtype=torch.float32), checkpoints.load_tokenizer(TINY)
    chat = UniPixelChat(model, tokenizer, masks=evidence_evaluation.EvenFrames())
    samples = datasets.load(str(squares)).samples[:3]
    questions = [
        [Message("user", (VideoPart(sample.video), prompts.evidence_prompt(sample, "evidence")))] for sample in samples
    ]
    inputs = chat.reader.collate([chat.reader.read(question) for question in questions])
    settings = ReplySettings.of_tokenizer(tokenizer, 0.0, 40)
    sampled = evidence_replies.sample_replies(model, replies.embed_prompts(model, inputs), 1, settings, range(3))
    texts = [
        evidence_replies.reply_text(tokenizer, ids[: int(length) - 1])
        for ids, length in zip(sampled.ids.tolist(), sampled.lengths, strict=True)
    ]
    expected = chat.generate_all(questions)
    assert texts == [reply.text for reply in expected]
    scores = evidence_evaluation.question_scores(samples[0], expected[0])
    assert len(expected[0].masks.frames) == evidence_evaluation.NUM_FRAMES
    assert 0 <= scores.area <= 1


@pytest.fixture(scope="module")
def finished(flags, tmp_path_factory):
    out = tmp_path_factory.mktemp("rl")
    assert sft.main([*flags, "--out", str(out)]) == 0
    return out


def test_training_changes_only_weights_with_an_adapter_and_logs_the_reward(finished):
    start, trained = (load_file(folder / "model.safetensors") for folder in (TINY, finished / "model"))
    changed = {name for name, weight in start.items() if (weight.float() - trained[name].float()).abs().max() > 1e-3}
    assert changed
    assert {name.split(".")[-2] for name in changed} <= {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert all(name.startswith("model.layers.") for name in changed), changed
    state = json.loads((finished / "checkpoint-2" / "trainer_state.json").read_text())
    first = state["log_history"][0]
    assert first["logprob_difference"] < evidence_training.MAX_DIFFERENCE
    assert 0 < first["reward_format"] <= 1
    assert first["gold_spans"] == 1
    assert {"reward", "entropy", "spans", "loss_policy", "loss_lm", "groups_without_variance"} <= first.keys()
    from unipixel.inference.chat import load_chat

    assert load_chat(str(finished / "model")).name == "unipixel"


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(flags, finished, tmp_path):
    import shutil

    shutil.copytree(finished / "checkpoint-1", tmp_path / "checkpoint-1")
    assert sft.main([*flags, "--out", str(tmp_path)]) == 0
    first, second = (load_file(folder / "model" / "model.safetensors") for folder in (finished, tmp_path))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
    assert checkpoint_folder.checkpoints(tmp_path)[-1].name == "checkpoint-2"


def test_the_number_of_spans_can_be_left_to_supervision(trainer, batch, monkeypatch):
    policy = dataclasses.replace(trainer.config.policy, count_weight=0.1)
    monkeypatch.setattr(trainer, "config", dataclasses.replace(trainer.config, policy=policy))
    rollouts = trainer.sample(trainer.trained.get_base_model(), batch)
    behind = [trainer._behind_spans(ids) for ids in rollouts.replies.ids]
    assert any(behind)
    for row, indices in enumerate(behind):
        assert not rollouts.advantages[row, indices].any()
    assert rollouts.advantages.any()
    assert float(trainer.compute_loss(trainer.trained, batch).detach()) != 0
    assert trainer._values["loss_count"][-1] > 0


def test_replies_without_reward_change_no_weight(trainer, batch, monkeypatch):
    settings = trainer.settings._replace(max_tokens=3)
    monkeypatch.setitem(vars(trainer), "settings", settings)
    rollouts = trainer.sample(trainer.trained.get_base_model(), batch)
    assert {reward for group in rollouts.rewards for reward in group} == {NO_REWARD}
    assert not rollouts.advantages.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--trainable seg", "adapter of the language model only"),
        ("--scope qkvo_all", "adapter of the language model only"),
        ("--dropout 0.1", "needs --dropout 0"),
        ("--loss.focal 1", "no weight of a mask loss"),
        ("--gradient-checkpointing True", "add --share-prompt False"),
        ("--temperature 0", "temperature must be a number > 0"),
        ("--group-size 1", "group_size must be a number >= 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(flags, options, message, capsys):
    with pytest.raises(SystemExit):
        sft.parse([*flags, *options.split()])
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
