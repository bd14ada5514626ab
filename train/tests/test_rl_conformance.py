"""One loop: evaluation, lock step and training send the same messages for the same replies, byte for byte."""

import json
from typing import ClassVar

import agent_world
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from evqa.agents import loop
from evqa.agents.tag_actions import TagActionModel, with_action, without_actions
from evqa.agents.transcript import Transcript
from evqa.models.base import Capabilities
from evqa.models.chat_tokens import ChatTokenizer
from evqa.models.messages import Reply
from evqa.models.text_model import GeneratedIds, TextModel
from evqa.models.tool_dialects import with_text_calls
from unipixel.rl import rollout

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

WHY = "<reasoning>why</reasoning>"
LOOK_JSON = '<tool_call>\n{"name": "visual_query", "arguments": {"question": "cup \\u00e9?"}}\n</tool_call>'
SCRIPTS = {
    "tags": [
        [
            f"{WHY}<search>cup \u00e9?</search>",
            f"{WHY} well",
            f"{WHY}<request_grounding/>",
            f"{WHY}<answer>a1</answer>",
        ],
        [f"{WHY}<answer>a0</answer><answer>a1</answer>", "", f"{WHY}<answer>a2</answer>"],
        [f"{WHY}<answer>a2</answer>"],
    ],
    "native": [
        [f"I look. {LOOK_JSON}", "<tool_call>{broken", "<answer>a1</answer>"],
        [
            f"{LOOK_JSON}{LOOK_JSON}",
            "no action",
            '<tool_call>{"name": "request_grounding", "arguments": {}}</tool_call>',
            "?",
        ],
        ["<answer>a2</answer>"],
    ],
}


@pytest.fixture(scope="module")
def tokenizer():
    """Bytes as tokens: the text of ids is the text that was encoded."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<|im_start|>", "<|im_end|>"]
    raw = Tokenizer(models.BPE({token: place for place, token in enumerate([*special, *alphabet])}, []))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


class TextScript:
    """Model that writes the texts of a script and stores the messages that it gets."""

    name = "script"
    settings: ClassVar = {}

    def __init__(self, texts, actions):
        self.texts, self.seen = list(texts), []
        self.capabilities = Capabilities(tools="text")
        self.actions = actions

    def generate(self, messages, *, tools=(), decoding=None):
        self.seen.append((bytes_of(messages), [tool.name for tool in tools]))
        reply = Reply(self.texts.pop(0))
        return with_text_calls(reply) if tools else reply


class StoringTokenizer(ChatTokenizer):
    """Tokenizer that stores the messages of each episode, which differ in their question."""

    def __init__(self, tokenizer):
        super().__init__(tokenizer)
        self.seen = {}

    def encode(self, messages, tools=()):
        row = (bytes_of(messages), [tool.name for tool in tools])
        question = next(part for part in messages[1].parts if "Question" in part).split("\n")[0]
        self.seen.setdefault(question, []).append(row)
        return super().encode(messages, tools)


def bytes_of(messages):
    """All of a conversation but what an adapter keeps for itself."""
    rows = [
        [message.role, list(message.parts), [call.model_dump() for call in message.calls], message.call_id]
        for message in messages
    ]
    return json.dumps(rows, ensure_ascii=False).encode()


@pytest.mark.parametrize("actions", ["tags", "native"])
def test_evaluation_lock_step_and_training_send_the_same_messages(tmp_path, tokenizer, actions):
    scripts = SCRIPTS[actions]
    samples = [
        sample.replace(id=f"q{place}", question=f"Which one, {place}?")
        for place, sample in enumerate(agent_world.samples(tmp_path / "data", len(scripts)))
    ]
    start = agent_world.start(tmp_path / "looker.json", turns=4, actions=actions)
    evaluated = [evaluate(start, sample, texts, actions) for sample, texts in zip(samples, scripts, strict=True)]
    together = lock_step(start, samples, scripts, actions)
    trained = train(start, samples, scripts, tokenizer)
    for place in range(len(scripts)):
        assert evaluated[place].seen == together[place].seen == trained[0][place]
        assert len(evaluated[place].seen) >= len(scripts[place])
    predictions = [model.prediction for model in evaluated]
    for other in ([model.prediction for model in together], [entry.prediction for entry in trained[1]]):
        assert [plain(prediction) for prediction in other] == [plain(prediction) for prediction in predictions]


def plain(prediction):
    """A prediction without times, tokens, and names of models."""
    turns = [turn.replace(usage=None, model=None, finish="stop") for turn in prediction.turns]
    return prediction.replace(turns=tuple(turns), seconds=None)


def evaluate(start, sample, texts, actions):
    model = TextScript(texts, actions)
    run = start(model, Transcript(sample), 0)
    model.prediction = run.finish(loop.run(TagActionModel(model) if run.has_tags else model, run.episode))
    return model


def lock_step(start, samples, scripts, actions):
    scripted = [TextScript(texts, actions) for texts in scripts]
    runs = [start(model, Transcript(sample), 0) for model, sample in zip(scripted, samples, strict=True)]

    def generate(requests):
        replies = []
        for request in requests:
            place = next(place for place, run in enumerate(runs) if run.episode.next_request() is request)
            if runs[place].has_tags:
                replies.append(with_action(scripted[place].generate(without_actions(request.messages))))
            else:
                replies.append(scripted[place].generate(request.messages, tools=request.tools))
        return replies

    predictions = loop.run_together(generate, [run.episode for run in runs])
    for model, run, prediction in zip(scripted, runs, predictions, strict=True):
        model.prediction = run.finish(prediction)
    return scripted


def train(start, samples, scripts, tokenizer):
    """The path of `rollout_func`, with an engine that writes scripted ids."""
    chat = StoringTokenizer(tokenizer)
    remaining = {f"one, {place}?": list(texts) for place, texts in enumerate(scripts)}

    def generate_ids(prompts):
        replies = []
        for ids in prompts:
            text = tokenizer.decode(ids)
            (key,) = [key for key in remaining if key in text]
            replies.append(GeneratedIds([*tokenizer(remaining[key].pop(0))["input_ids"], tokenizer.eos_token_id]))
        return replies

    model = TextModel(
        name="policy", chat=chat, generate_ids=generate_ids, max_tokens=100_000, max_reply_tokens=500, identity={}
    )
    played = rollout.play(model, start, samples, range(len(samples)))
    for entry in played:
        replies = [turn for turn in entry.prediction.turns if turn.agent == "main"]
        assert sum(entry.tokens.is_generated) == sum(turn.usage.output_tokens for turn in replies)
        rendered = tokenizer.decode(entry.tokens.ids)
        assert rendered.count("<|im_start|>assistant") == len(replies)
    return [chat.seen[f"Question: Which one, {place}?"] for place in range(len(samples))], played


def test_a_conversation_too_long_for_a_reply_ends_by_its_turns(tmp_path, tokenizer):
    sample = agent_world.samples(tmp_path / "data", 1)[0]
    model = TextModel(
        name="policy",
        chat=ChatTokenizer(tokenizer),
        generate_ids=lambda prompts: [GeneratedIds([7]) for _ in prompts],
        max_tokens=100,
        max_reply_tokens=50,
        identity={},
    )
    (played,) = rollout.play(model, agent_world.start(tmp_path / "looker.json"), [sample], [0])
    assert (played.prediction.status, played.prediction.answer, played.prediction.stop) == ("ok", None, "max_turns")
    assert played.tokens.num_generated == 0
    assert rollout.to_columns([played])["completion_ids"][0]


def test_a_template_that_rewrites_replies_is_refused(tokenizer):
    with pytest.raises(ValueError, match="does not write replies as they are"):
        ChatTokenizer(with_template(tokenizer, "{{ messages[0].content }}"))
    with pytest.raises(ValueError, match="has no chat template"):
        ChatTokenizer(with_template(tokenizer, None))


def with_template(tokenizer, template):
    other = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|im_end|>")
    other.chat_template = template
    return other
