"""Reinforcement learning of an agent: rollouts in the loop of evaluation, token ids, rewards, weights, checkpoints."""

import dataclasses
import random

import pytest
import tiny_master
import torch

from unipixel.configs import LoraConfig
from unipixel.rl import grpo, rollout
from unipixel.rl.configs import GRPOConfig, RLConfig, RLLoopConfig, RolloutConfig
from unipixel.rl.rewards import PRESETS


def config_of(folder, *, rank=0, steps=2, **grpo_settings):
    return RLConfig(
        recipe="test",
        out=folder,
        rewards=PRESETS["longvideoagent"],
        rollout=RolloutConfig(questions_per_step=2, group_size=4, turns=3, max_prompt_tokens=1500, max_reply_tokens=2),
        grpo=GRPOConfig(learning_rate=0.01, warmup_ratio=0.0, **{"kl": 0.0, **grpo_settings}),
        lora=LoraConfig(rank=rank, alpha=8, dropout=0.0),
        loop=RLLoopConfig(
            steps=steps,
            per_device_batch_size=4,
            bf16=False,
            gradient_checkpointing=False,
            save_steps=1,
            tensorboard=False,
        ),
    )


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("episodes")
    samples = tiny_master.samples(folder / "data", 4)
    return grpo.EpisodeTask(samples=samples, held_out=samples[:2], start=tiny_master.start(folder / "looker.json"))


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
    model = tiny_master.model()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    task = dataclasses.replace(task, on_rollouts=recorder)
    trainer = grpo.build_trainer(model, tiny_master.tokenizer(), config, task)
    trainer.train()
    return trainer, recorder.rollouts, before, config


def test_rollouts_have_calls_and_train_on_the_policys_tokens_alone(trained):
    _, rollouts, _, _ = trained
    tokenizer = tiny_master.tokenizer()
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
    first = trainer.state.log_history[0]
    assert {"rewards/correct/mean", "rewards/reasoning-tag/mean", "rewards/answer-tag/mean", "entropy"} <= set(first)


def test_a_conversation_is_never_tokenized_again(trained):
    """The ids of a longer conversation start with those of the shorter one, although replies were cut."""
    _, rollouts, _, _ = trained
    end = tiny_master.SPECIAL.index("<|im_end|>")
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
    greedy = [grpo.evaluate(config, trainer, task) for _ in range(2)]
    assert [played.tokens for played in greedy[0]] == [played.tokens for played in greedy[1]]
    assert torch.equal(state[0], torch.get_rng_state())
    assert trainer.model.training


def test_an_episode_that_fails_has_no_reward_and_no_trained_token(task):
    def broken(policy, transcript, seed):
        if seed % 2:
            raise ValueError("no clip")
        return task.start(policy, transcript, seed)

    config = config_of(task.samples[0].video)
    trainer = grpo.build_trainer(tiny_master.model(), tiny_master.tokenizer(), config, task)
    model = grpo.policy_model(config, trainer, grpo.ChatTokenizer(trainer.processing_class))
    played = rollout.play(model, broken, task.samples[:2], [0, 1])
    assert [entry.prediction.status for entry in played] == ["ok", "failed"]
    columns = rollout.to_columns(played)
    assert columns["env_mask"][1] == [0]
    reward = grpo.reward_function(config.rewards[0], 1)
    values = reward(sample=columns["sample"], prediction=columns["prediction"], trainer_state=trainer.state)
    assert values[1] is None
    assert values[0] is not None
    with pytest.raises(ValueError, match="all 1 episodes of a step failed, the first with: ValueError: no clip"):
        grpo.check_rollouts(played[1:])
