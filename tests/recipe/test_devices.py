"""The loss with tensors on an accelerator, without one: no kernel runs; a wrong device is an error, a copy is seen."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from verl.trainer.ppo.core_algos import agg_loss

from recipe.asymgrpo import policy_loss
from recipe.asymgrpo.policy_loss import _scalar, loss_and_sums

BATCH_INFO = "batch_num_tokens" in agg_loss.__code__.co_varnames


class Copies(TorchDispatchMode):
    """Operators that bring a tensor from one device to another."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("_to_copy", "copy_", "_local_scalar_dense"):
            source = args[1] if name == "copy_" else args[0]
            target = result.device if isinstance(result, torch.Tensor) else torch.device("cpu")
            if source.device.type != target.type:
                self.seen.append((name, tuple(source.shape), str(source.device), str(target)))
        return result


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-sum-norm", "seq-mean-token-mean"])
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.int64, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_stays_on_the_device(mode, mask_dtype, dtype, weighted):
    """Forward: nothing is copied. Then the 24 sums of the metrics go to the host, in one transfer."""
    info = {"batch_num_tokens": 40.0, "global_batch_size": 4.0, "dp_size": 2.0, "loss_scale_factor": 9.0}
    knobs = {"informative_coef": 0.3, "spurious_coef": 0.1, "cap": 0.5}
    knobs |= {"ratio_low": 0.8, "ratio_high": 1.28, "clip_dual": 3.0}
    with FakeTensorMode(), Copies() as copies:
        tensors = [torch.empty(4, 9, dtype=dtype, device="cuda") for _ in range(3)]
        mask = torch.empty(4, 9, dtype=mask_dtype, device="cuda")
        weights = torch.empty(4, 9, dtype=dtype, device="cuda") if weighted else None
        counts = {name: _scalar(value) for name, value in info.items()} if BATCH_INFO else {}

        def aggregate(**matrices):
            return agg_loss(**matrices, loss_agg_mode=mode, **counts)

        loss, sums = loss_and_sums(
            *tensors,
            mask,
            weights,
            aggregate=aggregate,
            **{name: _scalar(value, "cuda" if "ratio" in name else "cpu") for name, value in knobs.items()},
        )
        assert loss.device.type == sums.device.type == "cuda"
        assert sums.shape == (24,)
    assert copies.seen == []


ROOT = Path(__file__).resolve().parents[2]
# Functions that read a tensor which is on the host by then, or no tensor at all.
ON_THE_HOST = {
    ("advantage.py", "_verdicts"),
    ("advantage.py", "_warn"),
    ("advantage.py", "_end_without_signal"),
    ("groups.py", "form_groups"),
    ("groups.py", "_to_list"),
    ("groups.py", "_check_finite"),
    ("diagnostics.py", "group_sums"),
    ("diagnostics.py", "covariance_sums"),
    ("pooled.py", "__array_ufunc__"),
    ("pooled.py", "__add__"),
    ("curves/__init__.py", "pass_at_k"),
}


def calls_of(name: str) -> list[tuple[str, str]]:
    """(file, function) of each call of a tensor's method in the algorithm."""
    found = []
    folder = Path(policy_loss.__file__).parent  # of the installed package, where that is what is tested
    for path in [*sorted(folder.glob("*.py")), folder / "curves" / "__init__.py"]:
        if path.stem in ("pass_at_k", "doctor"):  # read dumps and machines
            continue
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
                        found.append((str(path.relative_to(folder)), function.name))
    return sorted(found)


def test_every_transfer_is_documented():
    """docs/gpu.md has each; gpu_check counts them on a card."""
    page = (ROOT / "docs" / "gpu.md").read_text()
    table = re.search(r"<!-- begin transfers -->\n\n(.*?)\n\n<!-- end transfers -->", page, re.DOTALL)[1]
    rows = re.findall(r"\| `([\w/.]+)`, `(\w+)` \| `(.*?)` \| (.*?) \|", table)
    assert len(rows) == len(table.splitlines()) - 2
    assert sorted((file, function) for file, function, call, _ in rows if ".cpu()" in call) == calls_of("cpu")
    to_host = [(file, function) for file, function, call, _ in rows if ".tolist()" in call]
    assert {*calls_of("tolist"), *calls_of("item")} - ON_THE_HOST == set(to_host)
