"""Reinforcement learning of an agent: rollouts in the loop of evaluation, token ids, rewards, weights, checkpoints."""

import dataclasses
import json
import random
import shutil

import agent_world
import pytest
import torch

from evqa import models
from evqa.agents import loop
from evqa.agents.tag_actions import TagActionModel
from evqa.agents.transcript import Transcript
from evqa.files import jsonl
from evqa.schema import Prediction
from unipixel import integrity
from unipixel.configs import LoraConfig
from unipixel.rl import grpo, rollout, run_record, weights
from unipixel.rl.configs import GRPOConfig, RLConfig, RLLoopConfig, RolloutConfig
from unipixel.rl.evaluation import play_held_out
from unipixel.rl.rewards import PRESETS
from unipixel.rl.trainer import rollout_line


def config_of(folder, *, rank=0, steps=2, loop=None, **grpo_settings):
    return RLConfig(
        recipe="test",
        weights="none",
        out=folder,
        rewards=PRESETS["longvideoagent"],
        rollout=RolloutConfig(questions_per_step=2, group_size=4, max_prompt_tokens=1500, max_reply_tokens=2),
        grpo=GRPOConfig(learning_rate=0.01, warmup_ratio=0.0, **{"kl": 0.0, **grpo_settings}),
        lora=LoraConfig(rank=rank, alpha=8, dropout=0.0),
        loop=RLLoopConfig(
            steps=steps,
            per_device_batch_size=4,
            bf16=False,
            gradient_checkpointing=False,
            **{"save_steps": 1, "eval_steps": 2, "transcript_steps": 2, "tensorboard": False, **(loop or {})},
        ),
    )


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes")
    samples = agent_world.samples(folder / "data", 4)
    return grpo.EpisodeTask(samples=samples, held_out=samples[:2], start=agent_world.start(folder / "looker.json"))


class Recorder:
    """Keeps the rollouts of a run."""

    def __init__(self):
        self.rollouts = []

    def __call__(self, rollouts, step):
        self.rollouts += rollouts


@pytest.fixture(scope="module")
def trained(task, tmp_path_factory):
    recorder = Recorder()
    config = config_of(tmp_path_factory.mktemp("run"), steps=3)
    model = agent_world.model()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    task = dataclasses.replace(task, on_rollouts=recorder)
    trainer = grpo.build_trainer(model, agent_world.tokenizer(), config, task)
    trainer.train()
    return trainer, recorder.rollouts, before, config


def test_rollouts_have_calls_and_train_on_the_policys_tokens_alone(trained):
    _, rollouts, _, _ = trained
    tokenizer = agent_world.tokenizer()
    assert len(rollouts) == 3 * 8
    assert any(turn.calls for played in rollouts for turn in played.prediction.turns if turn.agent == "main")
    assert {played.prediction.stop for played in rollouts} >= {"answered", "max_turns"}
    for played in rollouts:
        tokens = played.tokens
        replies = [turn for turn in played.prediction.turns if turn.agent == "main"]
        generated = [token for token, own in zip(tokens.completion_ids, tokens.is_generated, strict=True) if own]
        text = tokenizer.decode(generated, skip_special_tokens=True)
        assert text == " ".join(turn.reply for turn in replies if turn.reply)
        observations = len(tokens.completion_ids) - len(generated)
        assert (observations > 0) == (len(replies) > 1)


def test_weights_change_and_components_are_logged(trained):
    trainer, _, before, _ = trained
    moved = [name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])]
    assert moved
    first = next(entry for entry in trainer.state.log_history if "loss" in entry)
    assert {"rewards/correct/mean", "rewards/reasoning-tag/mean", "rewards/answer-tag/mean", "entropy"} <= set(first)
    assert {
        "frac_reward_zero_std",
        "calls/all",
        "calls/dialogue/visual_query",
        "clips/any_hit",
        "tokens/generated",
    } <= set(first)
    phases = [first[f"seconds/{phase}"] for phase in ("policy", "agents", "update")]
    assert sum(phases) == pytest.approx(first["seconds/step"])
    assert min(phases) > 0


def test_a_conversation_is_never_tokenized_again(trained):
    """The ids of a longer conversation start with those of the shorter one, although replies were cut."""
    _, rollouts, _, _ = trained
    end = agent_world.SPECIAL.index("<|im_end|>")
    cut = 0
    for played in rollouts:
        tokens = played.tokens
        for place, own in enumerate(tokens.is_generated[:-1]):
            if own and not tokens.is_generated[place + 1]:
                is_cut = tokens.completion_ids[place] != end
                assert (tokens.completion_ids[place + 1] == end) == is_cut  # appended, and not trained
                cut += is_cut
    assert cut


def test_evaluation_leaves_the_random_state_of_training_alone(trained, task):
    trainer, _, _, config = trained
    state = torch.get_rng_state(), random.getstate()
    greedy = [play_held_out(trainer, task.held_out, task.start, config.seed) for _ in range(2)]
    assert [played.tokens for played in greedy[0]] == [played.tokens for played in greedy[1]]
    assert torch.equal(state[0], torch.get_rng_state())
    assert trainer.model.training


def test_an_episode_that_fails_has_no_reward_and_no_trained_token(task, tmp_path):
    def broken(policy, transcript, seed):
        if seed % 2:
            raise ValueError("no clip")
        return task.start(policy, transcript, seed)

    config = config_of(tmp_path)
    trainer = grpo.build_trainer(agent_world.model(), agent_world.tokenizer(), config, task)
    played = rollout.play(trainer.policy_model, broken, task.samples[:2], [0, 1])
    assert [entry.prediction.status for entry in played] == ["ok", "failed"]
    columns = rollout.to_columns(played)
    assert columns["env_mask"][1] == [0]
    reward = grpo.reward_function(config.rewards[0], 1)
    values = reward(sample=columns["sample"], prediction=columns["prediction"], trainer_state=trainer.state)
    assert values[1] is None
    assert values[0] is not None
    with pytest.raises(ValueError, match="all 1 episodes of a step failed, the first with: ValueError: no clip"):
        grpo.check_rollouts(played[1:])


def test_a_resumed_run_equals_an_uninterrupted_one(trained, task, tmp_path):
    trainer, _, _, config = trained
    for step in (2, 3):
        assert integrity.manifest_damage(config.out / f"checkpoint-{step}") == []
    shutil.copytree(config.out / "checkpoint-2", tmp_path / "checkpoint-2")
    checkpoint = run_record.checkpoint_of(tmp_path, trainer.record, None)
    resumed = grpo.build_trainer(
        agent_world.model(seed=1), agent_world.tokenizer(), dataclasses.replace(config, out=tmp_path), task
    )
    resumed.train(resume_from_checkpoint=str(checkpoint))
    for name, weight in trainer.model.named_parameters():
        assert torch.equal(weight, resumed.model.get_parameter(name)), name
    (before, after) = (
        [entry["reward"] for entry in built.state.log_history if "reward" in entry] for built in (trainer, resumed)
    )
    assert before == after


def test_a_run_resumes_only_with_its_settings_and_whole_files(trained, tmp_path):
    trainer, _, _, config = trained
    shutil.copytree(config.out / "checkpoint-3", tmp_path / "checkpoint-3")
    other = run_record.record_of(dataclasses.replace(config, seed=1), processes=1, data={}, weights="")
    with pytest.raises(ValueError, match=r"config\.seed: 42 -> 1"):
        run_record.checkpoint_of(tmp_path, other, None)
    free = dataclasses.replace(config, loop=dataclasses.replace(config.loop, save_steps=7))
    assert run_record.checkpoint_of(tmp_path, run_record.record_of(free, processes=1, data={}, weights=""), None)
    assert f"the last complete checkpoint is {tmp_path / 'checkpoint-3'}" in run_record.resume_advice(tmp_path)
    state = tmp_path / "checkpoint-3" / "optimizer.pt"
    state.write_bytes(state.read_bytes()[:-1])
    assert run_record.resume_advice(tmp_path).startswith("there is no checkpoint yet")
    with pytest.raises(ValueError, match=r"optimizer\.pt has"):
        run_record.checkpoint_of(tmp_path, trainer.record, None)


def test_a_log_line_leaves_out_metrics_without_a_value():
    assert rollout_line({"loss": 0.1, "reward": 0.5, "calls/all": None}) == "reward 0.5"


def test_evaluations_and_transcripts_are_records(trained, task):
    trainer, rollouts, _, config = trained
    evaluations = [entry for entry in trainer.state.log_history if "eval_Acc" in entry]
    assert [entry["step"] for entry in evaluations] == [0, 2, 3]
    predictions = list(jsonl.read_records(config.out / "eval" / "step-2" / "predictions.jsonl", Prediction, []))
    right = [prediction.answer == sample.answer for prediction, sample in zip(predictions, task.held_out, strict=True)]
    assert evaluations[1]["eval_Acc_lenient"] == 100 * sum(right) / len(right)
    transcripts = list(jsonl.read_records(config.out / "rollouts" / "step-2.jsonl", Prediction, []))
    assert transcripts == [played.prediction for played in rollouts[16:20]]
    best = max(entry["eval_Acc"] for entry in evaluations)
    assert run_record.best_score(config.out) == best
    assert (config.out / "best" / "model.safetensors").is_file()


@pytest.fixture(scope="module")
def adapted(task, tmp_path_factory):
    """A run with an adapter, a KL term and two updates per step, and its merged model."""
    folder = tmp_path_factory.mktemp("adapted")
    start = folder / "start"
    agent_world.model().save_pretrained(start)
    agent_world.tokenizer().save_pretrained(start)
    config = config_of(folder / "run", rank=4, steps=1, loop={"eval_steps": 1}, kl=0.01, updates_per_step=2)
    model, tokenizer = weights.load(start, config)
    trainer = grpo.build_trainer(model, tokenizer, config, task)
    trainer.train()
    greedy = play_held_out(trainer, task.held_out, task.start, config.seed)
    merged = weights.export_merged_model(start, dataclasses.replace(config), trainer.record)
    return trainer, greedy, merged, config


def test_an_adapter_learns_with_a_reference_and_merges(adapted):
    trainer, _, merged, config = adapted
    assert trainer.state.global_step == 2
    assert all(("lora_" in name) == weight.requires_grad for name, weight in trainer.model.named_parameters())
    logs = [entry for entry in trainer.state.log_history if "kl" in entry]
    assert logs
    source = config.out / "best"
    assert run_record.read(merged)["exported"] == "best"
    import peft

    model = peft.PeftModel.from_pretrained(agent_world.model(), str(source))
    ids = torch.tensor([[2, 5, 6, 7]])
    plain, _ = weights.load(merged, config)
    assert torch.allclose(plain(ids).logits, model(ids).logits, atol=1e-5)


def test_the_merged_model_replies_in_evaluation_as_the_policy_in_training(adapted, task, tmp_path):
    _, _, merged, config = adapted
    model = models.build(str(merged), max_tokens=2)
    assert model.capabilities.default_method == "episode"
    step = json.loads((config.out / "best" / "score.json").read_text())["step"]
    folder = config.out / "eval" / f"step-{step // 2}"
    expected = list(jsonl.read_records(folder / "predictions.jsonl", Prediction, []))
    for sample, record in zip(task.held_out, expected, strict=True):
        transcript = Transcript(sample)
        run = task.start(model, transcript, 0)
        prediction = run.finish(loop.run(TagActionModel(model), run.episode))
        assert [(turn.prompt, turn.reply, turn.calls) for turn in prediction.turns] == [
            (turn.prompt, turn.reply, turn.calls) for turn in record.turns
        ]
        assert (prediction.answer, prediction.clips, prediction.stop) == (record.answer, record.clips, record.stop)
