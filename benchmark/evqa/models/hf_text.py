"""Language models of transformers as models of texts, such as the trained master of the method `episode`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import transformers

from evqa.hub import checkpoints
from evqa.models.base import Capabilities, ModelError
from evqa.models.batching import Batcher
from evqa.models.chat_tokens import ChatTokenizer, load_tokenizer
from evqa.models.hf_chat import check_folder, eos_token_ids, greedy_decoding, load_model
from evqa.models.sampling import RowDecoding, Sampling, decoding_name
from evqa.models.text_model import GeneratedIds, TextModel
from evqa.models.tool_dialects import DIALECTS, DialectName, tool_dialect_settings
from evqa.models.weights import MALFORMED, FiniteLogits, line_of, loading_context


class HFText(TextModel):
    """Adapter of a checkpoint, with batches; `generate` is deterministic."""

    def __init__(  # noqa: PLR0913  (each is a setting of a row)
        self,
        *,
        name: str,
        checkpoint: str,
        max_tokens: int = 1500,
        context: int = 32_768,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 1,
        device_map: str = "auto",
        dtype: str = "auto",
        tool_dialect: DialectName = "hermes",
    ) -> None:
        """Load a checkpoint.

        Args:
            name: name of the model in results.
            checkpoint: checkpoint name or folder.
            max_tokens: maximum number of tokens of a response.
            context: maximum number of tokens of a conversation; a longer one gets an empty response.
            temperature: sampling temperature; 0 = greedy decoding.
            seed: seed of sampling; equal conversations get equal replies.
            batch_size: number of conversations per forward pass.
            device_map: "auto" = all GPUs, or the CPU without a GPU; or a device.
            dtype: data type of the weights; "auto" = as stored.
            tool_dialect: text format of tool calls that the checkpoint was trained on.
        """
        folder = checkpoints.locate_checkpoint(checkpoint)
        check_folder(folder)
        with loading_context(f"the tokenizer in {folder}"):
            tokenizer = load_tokenizer(folder)
            chat = ChatTokenizer(tokenizer, DIALECTS[tool_dialect])
        self._model = load_model(folder, "AutoModelForCausalLM", device_map, dtype, trust=False)
        self._eos_ids = eos_token_ids(self._model, tokenizer, folder)
        self._model.generation_config = greedy_decoding(self._model, folder)
        self._decoding = RowDecoding(temperature, seed, max_tokens)
        self._batch_size = batch_size
        self._batcher: Batcher[list[int], GeneratedIds] = Batcher(self._generated, batch_size)
        super().__init__(
            name=name,
            chat=chat,
            generate_ids=lambda prompts: [self._batcher.result(ids) for ids in prompts],
            max_tokens=min(context, getattr(self._model.config, "max_position_embeddings", context)),
            max_reply_tokens=max_tokens,
            identity={
                "checkpoint": checkpoint,
                "architecture": type(self._model).__name__,
                "weights": checkpoints.fingerprint(folder),
                "revision": checkpoints.installed_revision(folder),
                "decoding": decoding_name(self._decoding),
                "max_tokens": max_tokens,
                "dtype": str(self._model.dtype).removeprefix("torch."),
                **tool_dialect_settings(tool_dialect),
            },
        )

    @property
    def capabilities(self) -> Capabilities:
        """Capabilities of the model."""
        concurrency = 2 * self._batch_size if self._batch_size > 1 else 1
        return replace(super().capabilities, concurrency=concurrency, is_concurrent=True)

    def _generated(self, prompts: Sequence[list[int]]) -> list[GeneratedIds]:
        try:
            return self._pass(prompts)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ModelError(f"out of memory: a smaller --batch-size needs less ({error})") from None
        except MALFORMED as error:
            raise ModelError(f"the model failed on this question: {line_of(error)}") from error

    def _pass(self, prompts: Sequence[list[int]]) -> list[GeneratedIds]:
        pad, length = self.chat.tokenizer.pad_token_id or 0, max(map(len, prompts))
        ids = torch.tensor([[pad] * (length - len(row)) + row for row in prompts], device=self._model.device)
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in prompts], device=ids.device)
        processors: list[transformers.LogitsProcessor] = [FiniteLogits()]
        if self._decoding.temperature:
            seeds = [hash((self._decoding.seed, *row)) % 2**31 for row in prompts]
            processors.append(Sampling([self._decoding] * len(prompts), seeds))
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=self.max_reply_tokens,
                eos_token_id=self._eos_ids,
                pad_token_id=pad,
                logits_processor=transformers.LogitsProcessorList(processors),
            )
        return [GeneratedIds(self._ended(row)) for row in output[:, length:].tolist()]

    def _ended(self, ids: list[int]) -> list[int]:
        """Ids up to the first one that ends a reply."""
        end = next((place for place, token in enumerate(ids) if token in self._eos_ids), len(ids))
        return ids[: end + 1]
