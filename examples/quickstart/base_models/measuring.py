"""What a model can do, by the reward that the training uses."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from examples.quickstart.base_models.network import MAX_RESPONSE_TOKENS

GROUP = 8  # samples a prompt


def sample(model: Any, tok: Any, prompts: Sequence[str], *, temperature: float, batch: int = 2048) -> list[str]:
    """One response per prompt, as text without its end token; temperature 0 is greedy."""
    import torch

    texts: list[str] = []
    device = next(model.parameters()).device
    for start in range(0, len(prompts), batch):
        inputs = tok(list(prompts[start : start + batch]), return_tensors="pt", padding=True).to(device)
        with torch.no_grad():
            out = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=MAX_RESPONSE_TOKENS,
                do_sample=temperature > 0,
                **({"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {}),
            )
        texts += tok.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def measure(model: Any, tok: Any, rows: Sequence[dict[str, Any]], group: int = GROUP) -> dict[str, Any]:
    """Accuracy of a model on held-out prompts, by the reward the training uses.

    Returns:
        ``accuracy`` at temperature 1 over ``group`` samples a prompt with its ``standard_error`` over prompts,
        ``accuracy_greedy``, ``accuracy_by_level``, and ``groups``: the share of prompts of whose ``group`` samples
        exactly 0, 1, ..., ``group`` are right.
    """
    from recipe.asymgrpo.reward import compute_score

    def right(texts: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[float]:
        return [
            compute_score(row["data_source"], text, row["reward_model"]["ground_truth"], row["extra_info"])["score"]
            for text, row in zip(texts, rows, strict=True)
        ]

    prompts = [row["prompt"][0]["content"] for row in rows]
    repeated = [row for row in rows for _ in range(group)]
    sampled = right(sample(model, tok, [row["prompt"][0]["content"] for row in repeated], temperature=1.0), repeated)
    counts = [round(sum(sampled[i : i + group])) for i in range(0, len(sampled), group)]
    by_level: dict[str, list[float]] = {}
    for row, count in zip(rows, counts, strict=True):
        by_level.setdefault(row["extra_info"]["level"], []).append(count / group)
    return {
        "accuracy": round(statistics.fmean(sampled), 4),
        "standard_error": round(statistics.pstdev(c / group for c in counts) / math.sqrt(len(counts)), 4),
        "accuracy_greedy": round(statistics.fmean(right(sample(model, tok, prompts, temperature=0.0), rows)), 4),
        "accuracy_by_level": {level: round(statistics.fmean(of), 4) for level, of in sorted(by_level.items())},
        "groups": {str(c): round(counts.count(c) / len(counts), 4) for c in range(group + 1)},
    }
