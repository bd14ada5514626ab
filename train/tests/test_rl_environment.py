"""Environments for policies that see images: the same episodes, and a step of TRL's own loop with them."""

from pathlib import Path

import agent_world
import pytest
import torch
import trl
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from evqa.agents import loop
from evqa.agents.frame_images import fit
from evqa.agents.transcript import Transcript
from evqa.models.base import Capabilities
from evqa.models.messages import Reply
from evqa.schema import ToolCall
from unipixel.rl import environment
from unipixel.rl.rewards import PRESETS

CALL = '<tool_call>\n{"name": "visual_query", "arguments": {"question": "cup?"}}\n</tool_call>'
ANSWER = "<answer>a0</answer>"


class Policy:
    """Model that is not asked; its capabilities decide how episodes are made."""

    name, settings = "policy", ()
    capabilities = Capabilities(tools="native")


class Scripted(Policy):
    def __init__(self, replies):
        self.replies = list(replies)

    def generate(self, messages, *, tools=(), decoding=None):
        return self.replies.pop(0)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("environment")
    samples = agent_world.samples(folder / "data", 4)
    return samples, agent_world.start(folder / "looker.json", actions="native", turns=3)


def test_the_environment_plays_the_episode_of_evaluation(world):
    samples, start = world
    kind = environment.environment_class(samples, start, Policy())
    played = kind()
    user = played.reset(sample=1)
    first = played.visual_query(question="cup?")
    second = played.request_grounding()
    third = played.visual_query(question="hat?")
    completion = [{"role": "assistant", "content": "<answer>a1</answer>"}]
    prediction = environment.prediction_of(played, completion)

    calls = [("visual_query", '{"question": "cup?"}'), ("request_grounding", "{}")]
    replies = [
        Reply("", calls=(ToolCall(id=f"call_{place}", name=name, arguments=arguments),))
        for place, (name, arguments) in enumerate(calls, 1)
    ]
    run = start(Policy(), Transcript(samples[1]), 0)
    evaluated = run.finish(loop.run(Scripted([*replies, Reply("<answer>a1</answer>")]), run.episode))
    texts = ["\n".join(message.parts) for message in run.episode.messages if message.role in {"user", "tool"}]
    assert [user, first, second] == [*texts[:2], "\n".join(texts[2:])]
    assert third == "error: not served, the answer is due"
    assert prediction.replace(seconds=None, turns=()) == evaluated.replace(seconds=None, turns=())
    assert [turn.calls for turn in prediction.turns] == [turn.calls for turn in evaluated.turns]


def test_invalid_calls_are_answered_and_a_missing_answer_is_none(world):
    samples, start = world
    played = environment.environment_class(samples, start, Policy())()
    played.reset(sample=0)
    assert "the question is empty" in played.visual_query(question=" ")
    prediction = environment.prediction_of(played, [{"role": "tool", "content": "<answer>a0</answer>"}])
    assert prediction.answer is None


def test_images_of_results_become_blocks(world, tmp_path):

    from evqa.models.messages import ImagePart

    image = fit(torch.zeros(8, 8, 3, dtype=torch.uint8).numpy(), 8)
    blocks = environment._content(["text", ImagePart(image=image, label="frame 3")])
    assert [block["type"] for block in blocks] == ["text", "text", "image"]
    assert blocks[2]["image"].size == (8, 8)


def tokenizer():
    """Tokens that are whole calls and answers, with the chat template of Qwen2.5."""
    special = ["<pad>", "<unk>", "<|im_start|>", "<|im_end|>", CALL, ANSWER, "\n", "user", "assistant", "tool"]
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate(special)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )
    made.add_tokens(["<|im_start|>", "<|im_end|>", CALL, ANSWER], special_tokens=False)
    made.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja").read_text()
    return made


def test_a_step_of_trl_with_the_environment(world, tmp_path, monkeypatch):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    samples, start = world
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=10,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        eos_token_id=3,
        pad_token_id=0,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    network = Qwen2ForCausalLM(config)
    with torch.no_grad():
        network.model.embed_tokens.weight[:, 0] = 1.0
        network.lm_head.weight[:, 0] = -2.0
        network.lm_head.weight[3:6, 0] = 2.0
    before = network.lm_head.weight.clone()
    trainer = GRPOTrainer(
        model=network,
        reward_funcs=[environment.reward_function(term) for term in PRESETS["longvideoagent"]],
        args=GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=8,
            num_generations=8,
            learning_rate=0.1,
            max_completion_length=400,
            generation_kwargs={"max_new_tokens": 3},
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to=[],
            save_strategy="no",
            max_tool_calling_iterations=2,
        ),
        train_dataset=Dataset.from_list(environment.rows(samples, start, Policy())),
        processing_class=tokenizer(),
        environment_factory=environment.environment_class(samples, start, Policy()),
    )
    trainer.train()
    log = trainer.state.log_history[0]
    assert log["tools/call_frequency"] > 0
    assert log["rewards/answer-tag/mean"] > 0
    assert not torch.equal(before, network.lm_head.weight)
