"""Time of a step of reinforcement learning by phase, against a plain step of TRL with the same tokens.

    python benchmark/perf/rl_step.py                       # 16 rollouts a step, a small random language model, CPU
    python benchmark/perf/rl_step.py --width 256 --steps 6

The first run is ours: episodes with agents, parsing, rewards, metrics. The second is `GRPOTrainer` with a
`rollout_func` that makes the same calls of its engine with the same conversations and returns the same token ids and
rewards. Equal seeds give equal samples, which is checked. Seconds are CPU time of this process, the mean over the steps
after the first.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, TrainerCallback

from evqa.agents.settings import AgentSettings, EpisodeSettings
from evqa.models.scripted import ScriptedModel
from evqa.schema import ClipRef, Sample
from unipixel.configs import LoraConfig
from unipixel.rl import grpo
from unipixel.rl.arguments import grpo_arguments
from unipixel.rl.configs import GRPOConfig, RLConfig, RLLoopConfig, RolloutConfig
from unipixel.rl.rewards import PRESETS

REASON = "<reasoning>why</reasoning>"
ACTIONS = [
    f"{REASON}<visual_query>cup?</visual_query>",
    f"{REASON}<request_grounding/>",
    *(f"{REASON}<answer>a{place}</answer>" for place in range(5)),
]
SPECIAL = ["<pad>", "<unk>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|> {{ message.role }} \n{{ message.content }} <|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant \n{% endif %}"
)
NUM_WORDS = 2000


class StepTimes(TrainerCallback):
    """CPU seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start a step."""
        self._start = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """End a step."""
        self.seconds.append(time.process_time() - self._start)

    @property
    def mean(self) -> float:
        """Mean over the steps after the first."""
        return float(np.mean(self.seconds[1:]))


def main(*, width: int = 128, layers: int = 4, questions: int = 4, group: int = 4, steps: int = 5) -> None:
    """Print CPU seconds per step of both, by phase, and their ratio.

    Args:
        width: hidden size of the language model.
        layers: its layers.
        questions: questions per step.
        group: rollouts per question.
        steps: steps; the first is left out.
    """
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = episodes(folder / "data")
        (folder / "looker.json").write_text(json.dumps({"*": "The cup is red."}))
        looker = ScriptedModel(replies=folder / "looker.json")
        settings = AgentSettings(episode=EpisodeSettings(episode_turns=5, actions="tags", clip_frames=4))
        task = grpo.EpisodeTask(samples=samples, start=grpo.start_with_team({"vision": looker}, settings))
        config = config_of(folder / "run", questions, group, steps)
        ours, times, calls, columns = run_ours(config, task, width, layers)
        plain = run_plain(config, len(samples), width, layers, calls, columns)
    phases = {
        phase: np.mean([entry[f"seconds/{phase}"] for entry in ours.state.log_history if "seconds/step" in entry][1:])
        for phase in ("policy", "agents", "update")
    }
    total = sum(phases.values())
    tokens = np.mean([sum(map(len, step["completion_ids"])) for step in columns])
    print(f"{questions} x {group} rollouts, {tokens:.0f} tokens of completion per step, width {width}, {layers} layers")
    print("share of the wall time: " + ", ".join(f"{name} {value / total:.1%}" for name, value in phases.items()))
    print(
        f"ours {times.mean:.3f} CPU s per step, plain TRL {plain.mean:.3f} CPU s, ratio {times.mean / plain.mean:.3f}"
    )


def config_of(folder: Path, questions: int, group: int, steps: int) -> RLConfig:
    """Config without evaluation and checkpoints."""
    return RLConfig(
        recipe="perf",
        weights="none",
        out=folder,
        rewards=PRESETS["strict"],
        rollout=RolloutConfig(
            questions_per_step=questions, group_size=group, max_prompt_tokens=4000, max_reply_tokens=2
        ),
        grpo=GRPOConfig(learning_rate=1e-5, kl=0.0),
        lora=LoraConfig(rank=0),
        loop=RLLoopConfig(
            steps=steps,
            per_device_batch_size=questions * group,
            bf16=False,
            gradient_checkpointing=False,
            save_steps=10 * steps,
            eval_steps=0,
            transcript_steps=10 * steps,
            tensorboard=False,
        ),
    )


def run_ours(
    config: RLConfig, task: grpo.EpisodeTask, width: int, layers: int
) -> tuple[Any, StepTimes, list[list[Any]], list[dict[str, Any]]]:
    """(trainer, times, conversations of each call of the engine by step, columns of each step) of our run."""
    times, calls, columns = StepTimes(), list[list[Any]](), list[dict[str, Any]]()
    trainer = grpo.build_trainer(model(width, layers), tokenizer(), config, task, callbacks=[times])
    generate, rollouts = trainer._generate_single_turn, trainer.rollout_func
    assert rollouts is not None

    def store_calls(prompts: list[list[int]], *rest: Any) -> Any:
        calls[-1].append(prompts)
        return generate(prompts, *rest)

    def store_columns(prompts: list[str], trainer: Any) -> dict[str, Any]:
        calls.append([])
        columns.append(rollouts(prompts, trainer))
        return columns[-1]

    trainer._generate_single_turn = store_calls  # type: ignore[method-assign]
    trainer.rollout_func = store_columns
    trainer.train()
    return trainer, times, calls, columns


def run_plain(
    config: RLConfig,
    num_samples: int,
    width: int,
    layers: int,
    calls: Sequence[list[Any]],
    columns: Sequence[dict[str, Any]],
) -> StepTimes:
    """Times of `GRPOTrainer` with the engine calls, token ids and rewards of our run."""
    from datasets import Dataset
    from trl.trainer.grpo_trainer import GRPOTrainer

    times = StepTimes()

    def replay(prompts: list[str], trainer: Any) -> dict[str, Any]:
        step = trainer.state.global_step
        torch.manual_seed(config.seed + grpo.SEED_STRIDE * step)
        for conversations in calls[step]:
            replies, _ = trainer._generate_single_turn(conversations, None, {}, 1)
            assert all(_contains(columns[step]["completion_ids"], list(ids)) for ids in replies), "other samples"
        kept = ("prompt_ids", "completion_ids", "env_mask", "logprobs")
        return {name: columns[step][name] for name in kept} | {"value": rewards[step]}

    def reward(*, value: list[float | None], **_: Any) -> list[float | None]:
        return value

    rewards = [
        [float(prediction.answer == sample.answer) for sample, prediction in zip(*step, strict=True)]
        for step in ((entry["sample"], entry["prediction"]) for entry in columns)
    ]
    arguments = grpo_arguments(config, processes=1)
    arguments.reward_weights = None
    trainer = GRPOTrainer(
        model=model(width, layers),
        reward_funcs=[reward],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": str(place)} for place in range(num_samples)]),
        processing_class=tokenizer(),
        rollout_func=replay,
        callbacks=[times],
    )
    trainer.train()
    return times


def _contains(rows: Sequence[Sequence[int]], ids: Sequence[int]) -> bool:
    """Whether ids occur in a row of ids."""
    text = f" {' '.join(map(str, ids))} "
    return any(text in f" {' '.join(map(str, row))} " for row in rows)


def episodes(folder: Path) -> list[Sample]:
    """Questions about an episode of eight clips with frames and thirty words of dialogue."""
    generator = np.random.default_rng(0)
    clips, texts = [], {}
    for place in range(8):
        name = f"s01e01_seg01_clip_{place:02d}"
        (folder / name).mkdir(parents=True)
        for frame in range(1, 5):
            Image.fromarray(np.full((64, 64, 3), 20 * frame, np.uint8)).save(folder / name / f"{frame:05d}.jpg")
        clips.append(ClipRef(id=name, path=folder / name, start=60.0 * place, duration=60.0))
        texts[name] = "Ann : " + " ".join(f"word{word}" for word in generator.integers(0, NUM_WORDS, 30))
    subtitles = folder / "subtitles.json"
    subtitles.write_text(json.dumps(texts))
    return [
        Sample(
            id=f"q{place}",
            video_id="s01e01",
            video=folder,
            question=f"What is with word{place}?",
            options=tuple(f"word{word}" for word in generator.integers(0, NUM_WORDS, 5)),
            answer=place % 5,
            duration=480.0,
            clips=tuple(clips),
            evidence_clips=(clips[place % 8].id,),
            subtitles=subtitles,
            question_type="dialogue",
        )
        for place in range(16)
    ]


def tokenizer() -> Any:
    """Words as tokens, and whole actions as tokens."""
    words = [*SPECIAL, *ACTIONS, "system", "user", "assistant", *(f"word{word}" for word in range(NUM_WORDS))]
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|im_end|>",
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def model(width: int, layers: int) -> Any:
    """A random language model that writes actions."""
    torch.manual_seed(0)
    size = len(SPECIAL) + len(ACTIONS) + 3 + NUM_WORDS
    config = Qwen2Config(
        vocab_size=size,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        eos_token_id=SPECIAL.index("<|im_end|>"),
        pad_token_id=0,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    network = Qwen2ForCausalLM(config)
    likely = [*range(len(SPECIAL), len(SPECIAL) + len(ACTIONS)), config.eos_token_id]
    with torch.no_grad():  # a constant feature of every token that makes actions likely
        network.model.embed_tokens.weight[:, 0] = 1.0
        network.lm_head.weight[:, 0] = -0.7
        network.lm_head.weight[likely, 0] = 0.7
    return network


if __name__ == "__main__":
    tyro.cli(main)
