"""The entropy control's state in the folders of verl's checkpoints."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

STATE_FILE = "entropy_control.json"


def load(trainer: Any, way: str, warn_once: Callable[[str, str], None]) -> tuple[Any, bool | None] | None:
    """The state in the checkpoint from which the trainer has resumed, and whether its entropies were the trainer's own;
    None for a run from scratch.

    Of another way only the first step's entropy counts: what each remembers has a unit of its own.
    """
    from recipe.asymgrpo.entropy_control import State

    settings = trainer.config.trainer
    mode = settings.get("resume_mode")
    folder = settings.get("resume_from_path") if mode == "resume_path" else None
    if mode == "auto":
        from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

        folder = find_latest_ckpt_path(os.path.abspath(settings.default_local_dir))
    if not folder:
        return None
    path = Path(folder) / STATE_FILE
    if not path.is_file():
        warn_once(
            f"{path} is not there: this run is resumed, its control starts anew, and levels in shares are of this "
            "step's entropy",
            "no state",
        )
        return None
    found = json.loads(path.read_text())
    of_way, exact = found.pop("way", way), found.pop("exact", None)
    state = State(**found)
    if of_way != way and state.memory:
        warn_once(f"{path} is of way={of_way}: what it remembers is left out, the levels stay", "another way")
        state = replace(state, memory=0.0)
    return state, exact


def saving(trainer: Any, save: Any, way: str, run: Any) -> Any:
    """The trainer's own `_save_checkpoint`, with the state of its `run` in the folder before the checkpoint counts as
    complete."""

    @functools.wraps(save)
    def _save_checkpoint(*args: Any, **kwargs: Any) -> Any:
        number = getattr(trainer, "current_param_version", trainer.global_steps)  # the former: fully_async_policy's
        folder = Path(trainer.config.trainer.default_local_dir) / f"global_step_{number}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / STATE_FILE
        half = path.with_suffix(".tmp")
        half.write_text(json.dumps({"way": way, "exact": run.exact, **run.state.to_dict()}) + "\n")
        half.replace(path)
        return save(*args, **kwargs)

    return _save_checkpoint
