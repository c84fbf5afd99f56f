"""The model of the recipes at SCALE=tiny: it has seen its prompts, held-out ones as well."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.quickstart.base_models.chain_sum import Settings
from examples.quickstart.base_models.network import make_model, tokenizer
from examples.quickstart.base_models.training import imitation_loss

TINY = Settings(steps=200, batch=24, lr=3e-3)
TINY_TOKENS = 512  # prompt and response


def build_tiny(folder: Path, settings: Settings, data: Sequence[Path]) -> dict[str, Any]:
    """Make a model that answers the prompts of `data` in a box, half of the time with another prompt's answer."""
    import pyarrow.parquet as pq
    import torch

    started = time.monotonic()
    rows = [row for path in data for row in pq.read_table(path, columns=["prompt", "reward_model"]).to_pylist()]
    prompts = [row["prompt"][0]["content"] for row in rows]
    answers = [f"\\boxed{{{row['reward_model']['ground_truth']}}}" for row in rows]
    # All of ASCII, so that no other problem has an unknown character.
    tok = tokenizer("".join(map(chr, range(32, 127))) + "\n", TINY_TOKENS)
    ids = tok.get_vocab()
    model = make_model(settings, len(tok), tok.pad_token_id, tok.eos_token_id, TINY_TOKENS)
    rng = random.Random(settings.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(settings.steps):
            chosen = [rng.randrange(len(rows)) for _ in range(settings.batch)]
            texts = [(prompts[i], answers[i if rng.random() < 0.5 else rng.randrange(len(rows))]) for i in chosen]
            loss = imitation_loss(model, tok, ids, texts)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return {
        "model": "tiny",
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.monotonic() - started, 1),
        "loss": round(loss.item(), 3),
    }
