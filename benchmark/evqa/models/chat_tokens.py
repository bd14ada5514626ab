"""Token ids of conversations that only grow, for evaluation and reinforcement learning alike.

A reply keeps the ids that the model generated (`TokenizedChat` in `Reply.raw`). The next request appends the ids of the
new messages; nothing that a model wrote is tokenized again, so that the ids that are trained are those that were
sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from evqa.hub import checkpoint_files
from evqa.models.messages import Message, ToolSpec
from evqa.models.openai_content import tool_fields
from evqa.models.tool_dialects import HERMES, Dialect, template_calls, template_writes_calls, to_text_messages

_REPLY = "reply-8f2c"
"""Reply of the sample conversation that shows how a chat template continues after a reply."""


BACKEND = "TokenizersBackend"
"""Class of a tokenizer that is defined by its tokenizer.json alone, as transformers writes it."""


def load_tokenizer(folder: Path) -> Any:
    """Tokenizer of a checkpoint as its tokenizer_config.json states it.

    `AutoTokenizer` (transformers 5.23) has a list of architectures for which it ignores that statement: a Qwen2 model
    with a tokenizer of its own would get Qwen2's rules in place of those in its tokenizer.json.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = folder / "tokenizer_config.json"
    class_name: object = checkpoint_files.read_object(path).get("tokenizer_class") if path.is_file() else None
    loader: Any = PreTrainedTokenizerFast if class_name == BACKEND else AutoTokenizer
    return loader.from_pretrained(folder, local_files_only=True)


@dataclass(frozen=True)
class TokenizedChat:
    """Token ids of a conversation."""

    prompt_ids: tuple[int, ...]
    """Ids of the messages before the first reply."""
    completion_ids: tuple[int, ...] = ()
    """Ids of all that follows: replies, and the messages between them."""
    is_generated: tuple[bool, ...] = ()
    """Whether the model generated each id of `completion_ids`."""
    logprobs: tuple[float, ...] | None = ()
    """Log-probability of each id of `completion_ids` when it was sampled, 0 for those of messages; None = not known."""

    @property
    def ids(self) -> list[int]:
        """All ids."""
        return [*self.prompt_ids, *self.completion_ids]

    @property
    def num_generated(self) -> int:
        """Number of ids that the model generated."""
        return sum(self.is_generated)

    def with_messages(self, ids: Sequence[int]) -> TokenizedChat:
        """The conversation with the ids of messages appended."""
        return self._extended(ids, [0.0] * len(ids), is_generated=False)

    def with_reply(self, ids: Sequence[int], logprobs: Sequence[float] | None = None) -> TokenizedChat:
        """The conversation with the ids of a reply appended."""
        return self._extended(ids, logprobs, is_generated=True)

    def _extended(self, ids: Sequence[int], logprobs: Sequence[float] | None, *, is_generated: bool) -> TokenizedChat:
        is_known = self.logprobs is not None and logprobs is not None
        return replace(
            self,
            completion_ids=(*self.completion_ids, *ids),
            is_generated=(*self.is_generated, *[is_generated] * len(ids)),
            logprobs=(*self.logprobs, *logprobs) if is_known else None,  # type: ignore[misc]
        )


class ChatTokenizer:
    """Chat template and tokenizer of a model of texts."""

    def __init__(self, tokenizer: Any, dialect: Dialect = HERMES) -> None:
        """Tokenizer of transformers with a chat template.

        Raises:
            ValueError: it has no chat template, or one that does not continue a conversation after a reply.
        """
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError("the tokenizer has no chat template: give an instruction-tuned checkpoint")
        self.tokenizer = tokenizer
        self.dialect = dialect
        if _REPLY not in self._render([*_SAMPLE]):
            raise ValueError("the chat template does not write replies as they are: expected one that only appends")

    def encode(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> TokenizedChat:
        """Token ids of a conversation up to the start of the next reply; tools are written before the first reply.

        Raises:
            ValueError: a message has a video or an image.
        """
        conversation = list(messages)
        if not self.has_template_calls:
            conversation = to_text_messages(conversation, tools, self.dialect)
        places = [place for place, message in enumerate(conversation) if isinstance(message.raw, TokenizedChat)]
        if not places:
            options = {"tools": tool_fields(tools)} if tools and self.has_template_calls else {}
            return TokenizedChat(tuple(self._ids(self._render(conversation, is_open=True, **options))))
        history = conversation[places[-1]].raw
        assert isinstance(history, TokenizedChat)
        return history.with_messages(self._continuation(conversation[places[-1] + 1 :], history))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    @cached_property
    def has_template_calls(self) -> bool:
        """Whether the chat template writes tools, calls and results in the dialect."""
        return self.dialect is HERMES and template_writes_calls(
            lambda chat, tools: str(
                self.tokenizer.apply_chat_template(
                    [row | {"content": row["content"][0]["text"]} for row in chat],  # type: ignore[index]
                    tokenize=False,
                    tools=tools,
                )
            )
        )

    def _continuation(self, messages: Sequence[Message], history: TokenizedChat) -> list[int]:
        """Ids of the messages after a reply. The end of a reply that was cut at its limit is one of them."""
        text = self._render([*_SAMPLE, *messages], is_open=True)
        rest = text[text.index(_REPLY) + len(_REPLY) :]
        end = str(self.tokenizer.eos_token or "")
        is_ended = bool(history.completion_ids) and history.completion_ids[-1] == self.tokenizer.eos_token_id
        if is_ended and end and rest.lstrip().startswith(end):
            rest = rest.lstrip().removeprefix(end)
        return self._ids(rest)

    def _render(self, messages: Sequence[Message], *, is_open: bool = False, **options: Any) -> str:
        chat = [{"role": message.role, "content": _text(message), **template_calls(message)} for message in messages]
        return str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=is_open, **options))

    def _ids(self, text: str) -> list[int]:
        encoded: Mapping[str, list[int]] = self.tokenizer(text, add_special_tokens=False)
        return list(encoded["input_ids"])


_SAMPLE = (Message("user", ("question",)), Message("assistant", (_REPLY,)))


def _text(message: Message) -> str:
    parts = [part for part in message.parts if isinstance(part, str)]
    if len(parts) != len(message.parts):
        raise ValueError("this model takes text only: use methods and roles without frames")
    return "\n".join(parts)
