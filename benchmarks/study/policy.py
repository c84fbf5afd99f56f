"""A small causal language model as the light engine uses it: it samples responses and says how likely tokens are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import DynamicCache

RESPONSE_LENGTH = 16


@dataclass
class Rollouts:
    """Sampled responses: B rows of T tokens, those of each of G prompts together."""

    prompt_ids: Tensor  # (G, P), padded on the left
    prompt_mask: Tensor  # (G, P)
    response_ids: Tensor  # (B, T)
    response_mask: Tensor  # (B, T) float, 1 up to and with the end token
    distributions: Tensor  # (B, T, V) log-probabilities of all tokens when they were sampled, at temperature 1, in nats
    texts: list[str]

    @property
    def each(self) -> int:
        """Responses a prompt."""
        return len(self.response_ids) // len(self.prompt_ids)

    def mini_batches(self, number: int) -> Iterator[tuple[slice, Rollouts]]:
        """The rows of each, and the rollouts that it has."""
        for prompts in torch.arange(len(self.prompt_ids)).chunk(number):
            own = slice(int(prompts[0]), int(prompts[-1]) + 1)
            rows = slice(own.start * self.each, own.stop * self.each)
            responses = (self.response_ids[rows], self.response_mask[rows], self.distributions[rows], self.texts[rows])
            yield rows, Rollouts(self.prompt_ids[own], self.prompt_mask[own], *responses)


class Policy:
    """A causal language model and its tokenizer, in float32."""

    def __init__(self, folder: Path):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def _after_prompts(self, ids: Tensor, mask: Tensor, each: int) -> tuple[Tensor, DynamicCache]:
        """(G * each, 1, V) logits and the cache after each prompt, which is computed once for all of its responses:
        it is half of the tokens of a row."""
        from transformers import DynamicCache

        cache = DynamicCache()
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        out = self.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1
        )
        cache.batch_repeat_interleave(each)
        return out.logits.repeat_interleave(each, 0), cache

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[str], each: int, generator: torch.Generator, temperature: float = 1.0
    ) -> Rollouts:
        """`each` responses a prompt."""
        inputs = self.tokenizer(list(prompts), return_tensors="pt", padding=True)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        end, pad = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        logits, cache = self._after_prompts(ids, mask, each)
        seen = mask.repeat_interleave(each, 0)
        positions = seen.sum(1, keepdim=True) - 1
        done = torch.zeros(len(seen), dtype=torch.bool)
        tokens: list[Tensor] = []
        steps: list[Tensor] = []
        while True:
            steps.append(logits)
            token = torch.multinomial((logits[:, -1] / temperature).softmax(-1), 1, generator=generator)
            token = torch.where(done[:, None], pad, token)
            tokens.append(token)
            done |= token[:, 0] == end
            if done.all() or len(tokens) == RESPONSE_LENGTH:
                break
            positions = positions + 1
            seen = torch.cat([seen, torch.ones_like(token)], 1)
            logits = self.model(
                input_ids=token, attention_mask=seen, position_ids=positions, past_key_values=cache
            ).logits
        response = torch.cat(tokens, 1)
        ended = (response == end).int()
        own = (ended.cumsum(1) - ended == 0).float()
        texts = self.tokenizer.batch_decode(response, skip_special_tokens=True)
        return Rollouts(ids, mask, response, own, torch.cat(steps, 1).log_softmax(-1), texts)

    def distributions(self, rollouts: Rollouts) -> Tensor:
        """(B, T, V) log-probabilities of all tokens of the vocabulary at each token of the responses, in nats."""
        ids, prompts = rollouts.prompt_ids, rollouts.prompt_mask
        logits, cache = self._after_prompts(ids, prompts, rollouts.each)
        response = rollouts.response_ids[:, :-1]
        if response.shape[1]:
            mask = torch.cat([prompts.repeat_interleave(rollouts.each, 0), rollouts.response_mask[:, :-1].long()], 1)
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, ids.shape[1] :]
            out = self.model(input_ids=response, attention_mask=mask, position_ids=positions, past_key_values=cache)
            logits = torch.cat([logits, out.logits], 1)
        return logits.log_softmax(-1)

    def log_probs(self, rollouts: Rollouts) -> tuple[Tensor, Tensor]:
        """(B, T) log-probabilities of the sampled tokens and entropies of their distributions, in nats."""
        logs = self.distributions(rollouts)
        return sampled(logs, rollouts.response_ids), entropies(logs)


def sampled(logs: Tensor, response: Tensor) -> Tensor:
    """(B, T) of the sampled tokens, from (B, T, V)."""
    return logs.gather(2, response.unsqueeze(2)).squeeze(2)


def entropies(logs: Tensor) -> Tensor:
    """(B, T) in nats, from (B, T, V)."""
    return -(logs.exp() * logs).sum(-1)
