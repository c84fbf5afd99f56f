"""Whether verl can resume from the checkpoint that it is about to take."""

from __future__ import annotations

import os
import re
import shlex
import zipfile
from pathlib import Path


class RunError(Exception):
    """The run must not go on; the message says why and what to do."""


def check_checkpoint(folder: Path) -> None:
    """Raise :class:`RunError` where verl would fail on the checkpoint that it is about to resume from, or would begin
    from nothing because it is not there.

    Complete archives are recognised by their ends, so that large ones take no time; shards on the disks of other nodes
    (RAY_ADDRESS) are not looked for.
    """
    tracker = folder / "latest_checkpointed_iteration.txt"
    if not tracker.exists():
        return
    step = tracker.read_text(errors="replace").strip()
    bad = faults_of(folder / f"global_step_{step}") if step.isdecimal() else [f"{tracker.name} says {step[:20]!r}"]
    if not bad:
        return
    others = (path for path in folder.glob("global_step_*") if not faults_of(path))
    intact = sorted(int(path.name.rpartition("_")[2]) for path in others)
    remedy = (
        f"To go on from step {intact[-1]}, which is intact: echo {intact[-1]} > {shlex.quote(str(tracker))}"
        if intact
        else f"No other checkpoint is intact. To begin again: mv {shlex.quote(str(folder))} elsewhere"
    )
    raise RunError(f"the checkpoint of step {step or '?'} cannot be resumed from: {', '.join(bad)}.\n{remedy}")


def faults_of(checkpoint: Path) -> list[str]:
    """What a checkpoint of verl lacks, in words."""
    if not checkpoint.is_dir():
        return [f"{checkpoint} does not exist"]
    actor = checkpoint / "actor"
    shards = sorted(actor.glob("*.pt"))
    found = [f"{path} is cut off or damaged" for path in shards if not zipfile.is_zipfile(path)]
    if not os.environ.get("RAY_ADDRESS"):
        # model_world_size_2_rank_0.pt, optim_..., extra_state_...: whatever was saved, each rank has it.
        parts = [re.fullmatch(r"(.+)_world_size_(\d+)_rank_\d+", path.stem) for path in shards]
        for kind, world in sorted({part.groups() for part in parts if part}):
            names = (actor / f"{kind}_world_size_{world}_rank_{rank}.pt" for rank in range(int(world)))
            found += [f"{name} is missing" for name in names if not name.exists()]
        if not (actor.is_dir() and any(actor.iterdir())):
            found.append(f"{actor} is missing or empty")
        elif not any(path.name.startswith("model_") for path in shards) and not (actor / "dist_ckpt").exists():
            found.append(f"{actor} has no shard of the model")  # Megatron's are below dist_ckpt
    if not zipfile.is_zipfile(checkpoint / "data.pt"):
        found.append(f"{checkpoint / 'data.pt'} is missing or damaged")
    return found
