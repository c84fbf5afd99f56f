"""The models of the quickstart's tasks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from examples.quickstart.base_models.chain_sum import Settings
from examples.quickstart.base_models.measuring import measure
from examples.quickstart.base_models.network import make_model, tokenizer
from examples.quickstart.base_models.training import same_problem, warm_start
from recipe.asymgrpo.data import procedural_rows

MEASURED_PROMPTS = 1024


def build_small(folder: Path, settings: Settings, show: bool = True) -> dict[str, Any]:
    """Make the small model, of any task, in `folder` (which exists and is empty) and return what was measured."""
    import torch

    started = time.monotonic()
    rows = procedural_rows(train_size=1, val_size=settings.val_size, seed=settings.data_seed, task=settings.task)["val"]
    held_out = {same_problem(row["prompt"][0]["content"]) for row in rows}
    tok = tokenizer(settings.characters)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a model this small only loses by sharing
    try:
        model = make_model(settings, len(tok), tok.pad_token_id, tok.eos_token_id)
        warm_start(model, tok, settings, held_out, show)
        torch.manual_seed(settings.seed)
        measured = measure(model, tok, rows[:MEASURED_PROMPTS])
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return {
        "model": settings.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.monotonic() - started, 1),
        "held_out_prompts": len(rows[:MEASURED_PROMPTS]),
        **measured,
    }
