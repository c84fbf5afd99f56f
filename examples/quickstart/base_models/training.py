"""The warm-start: next-character prediction on demonstrations."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from examples.quickstart.base_models.chain_sum import Settings


def same_problem(prompt: str) -> str:
    """A prompt without what may differ between two that ask the same: the order of countdown's numbers, of a lock's
    buttons."""
    given, separator, target = prompt.partition("=")
    if any(light in given for light in "arg"):
        given = " ".join(given[at : at + 3] for at in range(0, len(given), 3))
    return " ".join(sorted(given.split())) + separator + target if " " in given else prompt


def imitation_loss(model: Any, tok: Any, ids: dict[str, int], texts: Sequence[tuple[str, str]]) -> Any:
    """Mean next-character cross-entropy of the answers in ``(prompt, answer)`` texts; ``ids`` is the vocabulary."""
    import torch

    width = max(len(prompt) + len(answer) for prompt, answer in texts) + 1
    inputs = torch.full((len(texts), width), tok.pad_token_id)
    labels = torch.full((len(texts), width), -100)
    for row, (prompt, answer) in enumerate(texts):
        line = torch.tensor([*(ids[character] for character in prompt + answer), tok.eos_token_id])
        inputs[row, : len(line)] = line
        labels[row, len(prompt) : len(line)] = line[len(prompt) :]
    # Padding is on the right and attention is causal: no mask needed.
    logits = model(input_ids=inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def warm_start(model: Any, tok: Any, settings: Settings, held_out: set[str], show: bool = True) -> None:
    """Train `model` in place on demonstrations (next-character cross-entropy on what follows the ``=``).

    Args:
        held_out: problems that no demonstration may have (`same_problem` of their prompts).
        show: whether to draw a progress bar on stderr.
    """
    import torch
    from tqdm import tqdm

    rng = random.Random(settings.seed)
    ids = tok.get_vocab()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.0)
    model.train()
    for step in tqdm(range(settings.steps), desc="warm-start", unit="step", mininterval=1.0, disable=not show):
        texts: list[tuple[str, str]] = []
        while len(texts) < settings.batch:
            prompt, write = settings.demonstrate(rng, step)
            if same_problem(prompt) not in held_out:
                texts.append((prompt, write()))
        loss = imitation_loss(model, tok, ids, texts)
        cosine = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * min(1.0, (step + 1) / 30) * (0.05 + 0.95 * cosine)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
