"""Every preset against an oracle written from the paper, in exact fractions, sharing no code with `curves.py`."""

from __future__ import annotations

import builtins
import math
import subprocess
import sys
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
import torch

from recipe.asymgrpo.advantage import compute_asym_grpo_advantage
from recipe.asymgrpo.config import AsymGRPOConfig
from recipe.asymgrpo.curves import PRESETS, curves
from recipe.asymgrpo.curves.draw import PANELS, main, table

ROOT = Path(__file__).resolve().parents[2]

GROUP_SIZES = [1, 2, 8, 64]


def mean_std(c: int, n: int, reward: int) -> float:
    """(r - mean) / population std of n rewards of which c are 1; 0 where all are equal."""
    mean = Fraction(c, n)
    variance = Fraction(c * (n - c), n * n)
    return 0.0 if variance == 0 else float(reward - mean) / math.sqrt(variance)


def paper_power(c: int, n: int, reward: int, beta: float) -> float:
    if c in (0, n):
        return 0.0  # positive exponents
    log_odds = math.log(n - c) - math.log(c)
    return math.exp(beta * log_odds) if reward else -math.exp(-beta * log_odds)


def sqrt(value: Fraction) -> float:
    """To full precision, also where numerator and denominator are beyond every float."""
    return math.sqrt(math.exp(math.log(value.numerator) - math.log(value.denominator))) if value else 0.0


def paper_pass_at_k(c: int, n: int, reward: int, k: int) -> float:
    """Formulas of arXiv 2508.10751, in binomials."""
    if n < k:
        return 0.0  # our choice: pass@k is not defined
    rho = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    if rho in (0, 1):
        return 0.0
    if reward:
        return sqrt((1 - rho) / rho)
    with_me = Fraction(math.comb(n - c - 1, k - 1), math.comb(n - 1, k - 1))  # groups with this failure that fail
    return -float(with_me - (1 - rho)) / sqrt(rho * (1 - rho))


def oracle(preset: str, c: int, n: int, reward: int, **knobs: float) -> float:
    """The advantage of a response with this reward in a group of n with c successes."""
    p = Fraction(c, n)
    match preset, reward:
        case "psr", _:
            return float(reward)
        case "nsr", _:
            return float(reward - 1)
        case "w_reinforce", _:
            return knobs.get("positive_weight", 0.1) if reward else -1.0
        case "dr_grpo", _:
            return float(reward - p)
        case "rloo", _:
            return float(reward - Fraction(c - reward, n - 1)) if n > 1 else 0.0
        case "f_grpo", _:
            return float(1 - p) ** knobs.get("focal_gamma", 1.0) * mean_std(c, n, reward)
        case "fade", _:
            alpha, delta = knobs.get("fade_alpha", 2.0), knobs.get("fade_delta", 1.0)
            return float(1 - p) ** alpha if reward else -(float(1 - p) ** (alpha - 1)) * float(p) / delta
        case "fade_dynamic", _:  # of a batch with P = 1/2
            return float(1 - p) ** 1.5 if reward else -(float(1 - p) ** 0.5) * float(p)
        case "a_grae", _:  # likewise
            if c in (0, n):
                return 0.0
            share = min(1.0, 0.5 / knobs.get("agrae_alpha", 1.0)) if reward else 1.0
            return share * mean_std(c, n, reward) * (0.25 / sqrt(p) + 0.25 / sqrt(1 - p))
        case "sqrt_r", 1:
            return sqrt(1 - p) / float(p)
        case "sqrt_r", 0:
            return -1 / sqrt(1 - p)
        case "qae", _:
            hard = p <= 1 - Fraction(str(knobs.get("quantile_k", 0.4)))
            if c in (0, n) or bool(reward) != hard:
                return 0.0
            return (1 if reward else -1) / sqrt(p * (1 - p))
        case "pass_at_k", _:
            return paper_pass_at_k(c, n, reward, int(knobs.get("pass_k", 4)))
        case "asymgrpo", 1:
            return paper_power(c, n, 1, 0.9)
        case "asymgrpo", 0:
            return paper_power(c, n, 0, 0.4)
        case ("grpo", _) | ("pos_only", 1) | ("neg_only", 0) | ("ent_increase", 1) | ("ent_decrease", 0):
            return mean_std(c, n, reward)
        case ("reinforce", 1) | ("neg_only", 1):
            return 1.0
        case ("reinforce", 0) | ("pos_only", 0):
            return -1.0
        case "ent_decrease", 1:  # GRPO's positive curve with p and 1 - p exchanged
            return mean_std(n - c, n, 1)
        case "ent_increase", 0:
            return mean_std(n - c, n, 0)
        case "maxrl", 1:
            return float(Fraction(n - c, c))
        case "maxrl", 0:
            return -1.0 if c else 0.0
    raise AssertionError(preset)


def estimated(n: int, **knobs: float | str) -> list[tuple[int, int, float]]:
    """(c, reward, A) of every response in groups of n with 0, 1, ..., n successes, from the estimator in float32."""
    rows = [(c, int(row < c)) for c in range(n + 1) for row in range(n)]
    rewards = torch.tensor([[float(reward)] for _, reward in rows])
    advantages, _ = compute_asym_grpo_advantage(
        rewards, torch.ones_like(rewards), [c for c, _ in rows], {"asym_grpo": knobs}
    )
    assert advantages.dtype == torch.float32
    return [(*row, advantage) for row, advantage in zip(rows, advantages[:, 0].tolist(), strict=True)]


def test_the_presets_are_those_of_the_paper_and_the_wider_family():
    exponents = ["asymgrpo", "grpo", "reinforce", "pos_only", "neg_only", "ent_decrease", "ent_increase", "maxrl"]
    family = ["psr", "nsr", "w_reinforce", "dr_grpo", "rloo", "f_grpo", "fade"]
    family += ["fade_dynamic", "a_grae", "sqrt_r", "qae", "pass_at_k"]
    assert list(PRESETS) == exponents + family
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.doc
        assert preset.arxiv
        assert all(getattr(AsymGRPOConfig(), knob, ...) is None for knob in preset.knobs)
    assert [name for name in PRESETS if "beta_pos" in PRESETS[name].knobs] == exponents
    assert all("our reading" in PRESETS[name].doc for name in ("ent_decrease", "ent_increase"))


@pytest.mark.parametrize("n", GROUP_SIZES)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_estimator_gives_the_closed_form_at_every_count(preset, n):
    for c, reward, advantage in estimated(n, preset=preset):
        assert advantage == pytest.approx(oracle(preset, c, n, reward), rel=1e-6, abs=0), (c, reward)


@pytest.mark.parametrize(
    ("preset", "knobs"),
    [
        *(("w_reinforce", {"positive_weight": weight}) for weight in (0.0, 0.7, 3)),
        *(("f_grpo", {"focal_gamma": gamma}) for gamma in (0.0, 0.5, 2)),
        *(("fade", {"fade_alpha": alpha}) for alpha in (0.0, 0.5, 1, 3.5)),
        *(("fade", {"fade_alpha": 1.5, "fade_delta": delta}) for delta in (0.25, 4)),
        *(("a_grae", {"agrae_alpha": alpha}) for alpha in (0.25, 0.5, 0.75)),
        *(("qae", {"quantile_k": k}) for k in (0, 0.1, 0.25, 0.5, 0.9, 1)),
        *(("pass_at_k", {"pass_k": k}) for k in (1, 2, 3, 5, 7, 8, 9, 33, 64)),
    ],
)
@pytest.mark.parametrize("n", [1, 2, 5, 8, 10, 64])
def test_knobs_change_the_curves_as_the_formula_says(preset, knobs, n):
    for c, reward, advantage in estimated(n, preset=preset, **knobs):
        assert advantage == pytest.approx(oracle(preset, c, n, reward, **knobs), rel=1e-6, abs=0), (c, reward)


@pytest.mark.parametrize(("n", "k"), [(5, 1), (5, 2), (5, 3), (5, 5), (6, 4)])
def test_pass_at_k_is_the_mean_over_all_subsets(n, k):
    """By enumeration: a subset's reward is its best, standardised over subsets; a response gets its subsets' mean."""
    for c, reward, advantage in estimated(n, preset="pass_at_k", pass_k=k):
        subsets = list(combinations(range(n), k))  # responses below c are successes
        rewards = [float(min(subset) < c) for subset in subsets]
        mean = sum(rewards) / len(rewards)
        std = math.sqrt(mean * (1 - mean))
        me = 0 if reward else n - 1
        own = [r for subset, r in zip(subsets, rewards, strict=True) if me in subset]
        expected = (sum(own) / len(own) - mean) / std if std else 0.0
        assert advantage == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("k", [1, 2, 4, 31, 512, 1023, 1024])
def test_pass_at_k_is_exact_in_large_groups(k):
    n = 1024
    counts = torch.arange(n + 1)
    f, g = curves(AsymGRPOConfig("pass_at_k", pass_k=k), counts, torch.full((n + 1,), n))
    for c in (0, 1, 2, 5, 100, 512, 900, 1022, 1023, 1024):
        if c:
            assert f[c].item() == pytest.approx(paper_pass_at_k(c, n, 1, k), rel=1e-9, abs=0)
        if c < n:
            assert -g[c].item() == pytest.approx(paper_pass_at_k(c, n, 0, k), rel=1e-9, abs=0)


def test_pass_at_k_with_groups_of_different_sizes():
    """A group that lost responses below k sits out; the others do not notice."""
    config = AsymGRPOConfig("pass_at_k", pass_k=4)
    f, g = curves(config, torch.tensor([1, 1, 1, 2]), torch.tensor([3, 8, 4, 5]))
    own = [curves(config, torch.tensor([c]), torch.tensor([n])) for c, n in ((1, 3), (1, 8), (1, 4), (2, 5))]
    assert f.tolist() == [own_f.item() for own_f, _ in own]
    assert g.tolist() == [own_g.item() for _, own_g in own]
    assert (f[0].item(), g[0].item()) == (0.0, 0.0)
    assert f[1].item() > 0


def test_relations_between_presets():
    counts, sizes = torch.arange(9), torch.full((9,), 8)

    def same(left, right):
        for one, other in zip(curves(left, counts, sizes), curves(right, counts, sizes), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)

    same(AsymGRPOConfig("pass_at_k", pass_k=1), AsymGRPOConfig("grpo"))
    same(AsymGRPOConfig("f_grpo", focal_gamma=0), AsymGRPOConfig("grpo"))
    same(AsymGRPOConfig("w_reinforce", positive_weight=1), AsymGRPOConfig("reinforce"))


@pytest.mark.parametrize("n", GROUP_SIZES)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_value_is_finite(preset, n):
    for curve in curves(AsymGRPOConfig(preset), torch.arange(n + 1), torch.full((n + 1,), n)):
        assert bool(curve.isfinite().all())


@pytest.mark.parametrize("n", GROUP_SIZES)
@pytest.mark.parametrize("preset", PRESETS)
def test_closed_form_at_every_count(preset, n):
    counts = torch.arange(n + 1)
    f, g = curves(AsymGRPOConfig(preset), counts, torch.full((n + 1,), n))
    assert f.dtype == g.dtype == torch.float64
    for c in range(n + 1):
        if c > 0:  # a success exists
            assert f[c].float().item() == pytest.approx(oracle(preset, c, n, 1), rel=1e-6, abs=0)
        if c < n:
            assert -g[c].float().item() == pytest.approx(oracle(preset, c, n, 0), rel=1e-6, abs=0)


@pytest.mark.parametrize(("beta", "at_boundary"), [(2.5, 0.0), (1e-9, 0.0), (0.0, 1.0), (-1e-9, 0.0), (-2.5, 0.0)])
def test_boundary_is_the_formula_where_finite_and_zero_where_it_diverges(beta, at_boundary):
    config = AsymGRPOConfig(beta_pos=beta, beta_neg=beta)
    f, g = curves(config, torch.tensor([8, 0]), torch.tensor([8, 8]))
    assert f[0] == at_boundary  # p = 1: what a success gets
    assert g[1] == at_boundary  # p = 0: what a failure gets


def test_all_powers_pass_through_one_at_one_half():
    for preset in PANELS["two exponents"]:
        f, g = curves(AsymGRPOConfig(preset), torch.tensor([4]), torch.tensor([8]))
        assert (f.item(), g.item()) == (1.0, 1.0)


def test_a_negative_exponent_mirrors_p():
    counts, sizes = torch.arange(1, 8), torch.full((7,), 8)
    f, g = curves(AsymGRPOConfig(beta_pos=-0.7, beta_neg=-0.2), counts, sizes)
    mirrored_f, mirrored_g = curves(AsymGRPOConfig(beta_pos=0.7, beta_neg=0.2), sizes - counts, sizes)
    torch.testing.assert_close(f, mirrored_f)
    torch.testing.assert_close(g, mirrored_g)


def test_explicit_exponents_keep_the_presets_boundary():
    config = AsymGRPOConfig("maxrl", beta_neg=-1.0, beta_pos=2.0)
    f, g = curves(config, torch.tensor([0, 2]), torch.tensor([8, 8]))
    assert f[1] == 9.0
    assert g.tolist() == [0.0, 3.0]
    assert curves(AsymGRPOConfig("maxrl", beta_neg=0.0), torch.tensor([0]), torch.tensor([8]))[1] == 0.0


def test_a_large_power_of_finite_odds_is_not_mistaken_for_a_pole():
    f, _ = curves(AsymGRPOConfig(beta_pos=1000.0), torch.tensor([1]), torch.tensor([64]))
    assert f.item() == math.inf  # the estimator bounds it


@pytest.mark.parametrize("preset", PRESETS)
def test_no_groups_give_no_curves(preset):
    f, g = curves(AsymGRPOConfig(preset), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert f.shape == g.shape == (0,)


# --- python -m recipe.asymgrpo.curves ---


def test_every_preset_is_in_the_picture_once():
    drawn = [preset for presets in PANELS.values() for preset in presets]
    assert sorted(drawn) == sorted(PRESETS)


@pytest.mark.parametrize("n", [1, 4, 8, 20])
def test_the_table_has_every_advantage(n):
    read: dict[tuple[str, int, int], str] = {}
    for block in table(n).split("\n\n"):
        head, *lines = block.split("\n")
        assert len({len(line) for line in [head, *lines]}) == 1  # aligned
        reward = int("success" in head)
        counts = [int(cell.split("/")[0]) for cell in head.split()[4:]]
        for line in lines:
            preset, *cells = line.split()
            read.update({(preset, reward, c): cell for c, cell in zip(counts, cells, strict=True)})
    assert len(read) == len(PRESETS) * 2 * (n + 1)
    for (preset, reward, c), cell in read.items():
        if c == (0 if reward else n):
            assert cell == "."  # no such response
        else:
            assert float(cell) == pytest.approx(oracle(preset, c, n, reward), abs=6e-4)
            assert cell != "-0.000" or oracle(preset, c, n, reward)


def test_command_prints_and_draws(tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "new" / "curves.png"
    done = subprocess.run(
        [sys.executable, "-m", "recipe.asymgrpo.curves", "--group-size", "4", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{table(4)}\n\npicture: {out}\n"
    content = out.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) > 20_000


def test_without_matplotlib_the_table_and_a_remedy(tmp_path, monkeypatch, capsys):
    real = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    assert main(["--group-size", "2", "--out", str(tmp_path / "curves.png")]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{table(2)}\n"
    assert "pip install matplotlib" in printed.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", ["0", "-3", "eight"])
def test_an_impossible_group_size(size, capsys):
    with pytest.raises(SystemExit):
        main(["--group-size", size])
    assert "--group-size" in capsys.readouterr().err
