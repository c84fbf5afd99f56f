"""What a machine with a GPU makes of this package: the values of the CPU, what they cost, and a training. One page.

    bash examples/gpu_check.sh                 all of it: minutes, offline
    DEVICE=cpu bash examples/gpu_check.sh      parts 1 and 2 without a GPU

1. Estimator, loss and diagnostics on the device against the CPU: values, gradients, memory, copies to the host.
2. benchmarks/estimator.py and benchmarks/policy_loss.py, beside verl's functions where verl is installed.
3. Two steps of examples/run_qwen2_5_0_5b_1gpu.sh at SCALE=tiny on the GPU itself, and a third after a resume.

Writes gpu_check.md and gpu_check.json into --out. Exit status: 0, or 1 where something failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PASS, FAIL, ABSENT = "PASS", "FAIL", "not here"


@dataclass
class Finding:
    """One line of the page."""

    part: int
    what: str
    status: str
    words: str
    figures: dict[str, Any] = field(default_factory=dict)
