from __future__ import annotations

import base64
import io
import json
import math
import os
import re
import shlex
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipe.asymgrpo.report.comparison import band, build, interval, smooth
from recipe.asymgrpo.report.derived import entropy_prediction, training_pass_at_k
from recipe.asymgrpo.report.page import main
from recipe.asymgrpo.report.runs import NoRunError, find_runs, read_run

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "docs" / "report"


def record(step: int, seed: int = 0, **data) -> dict:
    """A training record of our estimator and loss, with values that are easy to recompute."""
    p = min(0.9, 0.3 + 0.01 * step + 0.01 * seed)
    values = {
        "actor/entropy": 1.0 - 0.01 * step,
        "actor/lr": 1e-3,
        "asymgrpo/groups": 16.0,
        "asymgrpo/group_accuracy": p,
        "asymgrpo/none_solved": 0.2 - 0.001 * step,
        "asymgrpo/all_solved": 0.1,
        "asymgrpo/adv_mass_positive": 0.5,
        "asymgrpo/cov_logprob_adv": 1.0,
        "training/rollout_probs_diff_max": 1e-6,
    }
    for name, share in zip(("0_20", "20_40", "40_60", "60_80", "80_100"), (0.2, 0.3, 0.2, 0.2, 0.1), strict=True):
        values[f"asymgrpo/p_hist/{name}"] = share
        values[f"asymgrpo/cov_by_p/{name}"] = share * 2
    for k in (1, 2, 4, 8):
        values[f"asymgrpo/pass_at/{k}"] = 1 - (1 - p) ** k
    for sign in ("positive", "negative"):
        values |= {f"actor/{sign}/surprisal": 0.5, f"actor/{sign}/clipfrac": 0.01}
    if step % 5 == 0:
        values["val-core/reasoning_gym/chain_sum/acc/mean@1"] = p
    return {"step": step, "data": values | data}


def write_run(folder: Path, records, name: str = "metrics-000.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


@pytest.fixture
def runs(tmp_path) -> Path:
    for method in ("asymgrpo", "grpo"):
        for seed in (1, 2, 3):
            folder = write_run(tmp_path / "runs" / f"{method}-seed{seed}", [record(s, seed) for s in range(1, 21)])
            (folder / "hydra" / ".hydra").mkdir(parents=True)
            (folder / "hydra" / ".hydra" / "config.yaml").write_text(
                f"algorithm:\n  asym_grpo:\n    preset: {method}\ndata:\n  seed: {seed}\ntrainer:\n"
                f"  default_local_dir: /somewhere/{method}{seed}\n"
            )
    return tmp_path / "runs"


class Page(HTMLParser):
    """What a browser would load, and the text."""

    def __init__(self, text: str):
        super().__init__()
        self.urls: list[str] = []
        self.feed(text)
        self.data = json.loads(re.search(r"<script type='application/json' id=data>(.*?)</script>", text, re.S)[1])

    def handle_starttag(self, tag, attrs):
        self.urls += [value for name, value in attrs if name in ("src", "href")]


def test_page_needs_no_network_and_says_what_the_logs_say(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(runs), "--out", str(out)]) == 0
    text = (out / "report.html").read_text()
    page = Page(text)
    assert page.urls
    assert all(url.startswith("data:image/png;base64,") for url in page.urls)
    assert "http" not in text.replace("http-equiv", "")
    rows = {(row["key"], row["method"]): row for row in page.data["table"]}
    last = rows["val-core/reasoning_gym/chain_sum/acc/mean@1", "grpo"]["last"]
    values = [0.3 + 0.2 + 0.01 * seed for seed in (1, 2, 3)]
    assert last["mean"] == pytest.approx(statistics.fmean(values))
    assert last["half"] == pytest.approx(4.303 * statistics.stdev(values) / math.sqrt(3))
    assert last["step"] == 20
    entropy = rows["actor/entropy", "asymgrpo"]
    assert entropy["first"]["mean"] == pytest.approx(1 - 0.01 * 3)  # mean of steps 1 to 5
    assert entropy["last"]["mean"] == pytest.approx(1 - 0.01 * 18)
    unsolved = rows["asymgrpo/none_solved", "asymgrpo"]
    assert unsolved["best"]["mean"] == unsolved["last"]["mean"]  # lowest is best
    assert "algorithm.asym_grpo.preset is asymgrpo in asymgrpo; grpo in grpo" in text
    assert "data.seed" not in text
    assert "default_local_dir" not in text
    for name in ("accuracy", "training_accuracy", "pass_at_k", "entropy", "entropy_by_sign", "none_solved"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    for name in ("p_histogram", "advantage_mass", "clipfrac_by_sign", "covariance_by_p", "entropy_prediction"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert f"0.520 ± {last['half']:.3f}" in printed


def test_plain_grpo_shows_what_is_there_and_names_what_is_not(tmp_path, capsys):
    plain = [{"step": s, "data": {"actor/entropy": 0.5, "val-core/gsm8k/reward/mean@1": 0.25}} for s in range(4)]
    run = write_run(tmp_path / "plain-seed1", plain)
    assert main([str(run), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    assert "validation accuracy, gsm8k" in text
    assert "No group figures in all runs" in text
    assert "loss_mode=entropy_modulated" in text
    assert "No configuration was found for plain-seed1" in text

    for step in range(4):  # the same run with verl's rollout dumps
        (run / "rollouts").mkdir(exist_ok=True)
        rows = [{"uid": f"p{p}_{i}_0", "input": "", "score": float(i < p)} for p in range(4) for i in range(4)]
        (run / "rollouts" / f"{step}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = read_run(run)
    assert found["asymgrpo/none_solved"] == dict.fromkeys(range(4), 0.25)
    assert found["asymgrpo/pass_at/2"][0] == pytest.approx((0 + 3 / 6 + 5 / 6 + 1) / 4)
    assert found["asymgrpo/p_hist/40_60"][0] == 0.25
    assert "counted from verl's rollout dumps" in found.notes[0]


def test_resumed_run_is_one_run_and_the_later_start_counts(tmp_path):
    run = write_run(tmp_path / "a-seed1", [record(s, **{"actor/entropy": 9.0}) for s in (1, 2, 3)])
    write_run(run, [record(s) for s in (3, 4)], "metrics-001.jsonl")
    found = read_run(run)
    assert found.steps == [1, 2, 3, 4]
    assert [found["actor/entropy"][s] for s in (2, 3)] == [9.0, pytest.approx(0.97)]


def test_project_folder_of_verl_is_a_run_a_file(tmp_path):
    for name in ("grpo_seed1", "grpo_seed2", "other"):
        write_run(tmp_path, [record(1)], f"{name}.jsonl")
    found, problems = find_runs([tmp_path])
    assert {run.name: run.method for run in found} == {"grpo_seed1": "grpo", "grpo_seed2": "grpo", "other": "other"}
    assert not problems


BAD = {
    "empty": (b"", "it is empty"),
    "only-newlines": (b"\n\n\n", "it is empty"),
    "binary": (bytes(range(256)) * 10, "not JSON"),
    "not-utf8": (b'{"step": 1, "data": {"actor/entropy": "\xff"}}\n', "no training step"),
    "prose": (b"Traceback (most recent call last):\n  oh dear\n", "2 lines that are not JSON"),
    "foreign": (b'{"epoch": 1, "loss": 0.5}\n[1, 2]\n"text"\n3\n', "4 lines that are not a record of verl"),
    "wrong-types": (b'{"step": "1", "data": {}}\n{"step": 1, "data": [1]}\n{"step": true, "data": {}}\n', "3 lines"),
    "other-keys": (b'{"step": 1, "data": {"loss": 1.0}}\n', "no training step"),
    "all-nan": (b'{"step": 1, "data": {"actor/entropy": NaN}}\n', "actor/entropy at 1 step"),
    "recursion": (b"[" * 200_000 + b"\n", "not JSON"),
    "cut": (b'{"step": 1, "data": {"actor/ent', "1 incomplete last lines"),
    "long-number": (b'{"step": 1, "data": {"actor/entropy": 1' + b"0" * 400 + b"}}\n", "actor/entropy"),
    "digits": (b'{"step": 1, "data": {"actor/entropy": 1' + b"0" * 5000 + b"}}\n", "not JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_a_clear_message(tmp_path, capsys, name):
    content, message = BAD[name]
    path = tmp_path / f"{name}.jsonl"
    path.write_bytes(content)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    assert str(path) in err
    assert message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", BAD)
def test_bad_lines_in_a_good_run_are_noted(tmp_path, name):
    content, _ = BAD[name]
    good = "".join(json.dumps(record(s)) + "\n" for s in (2, 3)).encode()
    (tmp_path / "run.jsonl").write_bytes(content + (b"" if content.endswith(b"\n") else b"\n") + good)
    run = read_run(tmp_path / "run.jsonl")
    assert {2, 3} <= set(run.steps)
    assert all(math.isfinite(value) for curve in run.series.values() for value in curve.values())
    assert bool(run.notes) == (name not in ("empty", "only-newlines", "other-keys"))


def test_running_training_and_nan(tmp_path, capsys):
    lines = [json.dumps(record(s)) for s in range(1, 8)]
    lines[3] = json.dumps(record(4, **{"actor/entropy": None, "asymgrpo/none_solved": math.nan}))
    (tmp_path / "live-seed1.jsonl").write_text("\n".join(lines) + '\n{"step": 8, "da')
    assert main([str(tmp_path / "live-seed1.jsonl"), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "1 incomplete last lines skipped" in out
    assert "actor/entropy at 1 step" in out
    assert "nan" not in (tmp_path / "out" / "report.html").read_text().lower().split("base64", 1)[0]


def test_kept_groups_are_not_shown_as_sampled_ones(tmp_path, capsys):
    """With `filter_groups` the log has `asymgrpo/kept/...`, and verl's dumps the groups that were kept."""
    kept = [record(step) for step in range(1, 5)]
    for line in kept:
        line["data"] = {key.replace("asymgrpo/", "asymgrpo/kept/"): value for key, value in line["data"].items()}
    folder = write_run(tmp_path / "dapo-seed1", kept)
    write_run(folder / "rollouts", [{"uid": f"a_{s}_0", "input": "x", "score": s % 2} for s in range(4)], "1.jsonl")
    run = read_run(folder)
    assert run.filtered
    assert "asymgrpo/none_solved" not in run.series
    assert main([str(folder), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "of those that were kept the log has asymgrpo/kept/" in page
    assert "No group figures in" not in page


def test_a_sign_without_tokens_is_not_drawn_as_0(tmp_path):
    from recipe.asymgrpo.report.painter import _where_there_are_tokens

    shares = {"actor/negative/token_share": 0.0, "actor/negative/surprisal": 0.0, "actor/positive/token_share": 0.5}
    run = read_run(write_run(tmp_path / "psr-seed1", [record(step, **shares) for step in (1, 2)]))
    assert _where_there_are_tokens(run, "actor/negative/surprisal") == {}
    assert _where_there_are_tokens(run, "actor/positive/surprisal") == {1: 0.5, 2: 0.5}


@pytest.mark.parametrize("name", ["$x_{$", "_u"])
def test_names_are_no_formulas(name, tmp_path):
    paths = [write_run(tmp_path / one, [record(step) for step in (1, 2)]) for one in (f"{name}-seed1", "b-seed1")]
    assert main([*map(str, paths), "--out", str(tmp_path / "report")]) == 0


def test_paths_without_a_run(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), str(tmp_path / "nowhere")]) == 1
    err = capsys.readouterr().err
    assert "no run in it. A run is a folder with metrics-*.jsonl" in err
    assert "nowhere: does not exist" in err
    (tmp_path / "file").write_text("")
    write_run(tmp_path / "good", [record(1)])
    assert main([str(tmp_path / "good"), "--out", str(tmp_path / "file")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_markup_in_names_and_settings_is_shown_not_run(tmp_path):
    evil = "<script>alert(1)<&"
    for seed, value in ((1, evil), (2, "b")):
        run = write_run(tmp_path / f"{evil}-seed{seed}", [record(1)])
        (run / ".hydra").mkdir()
        (run / ".hydra" / "config.yaml").write_text(f"x: '{value}'\n")
    assert main([*map(str, tmp_path.iterdir()), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in text
    assert "x is " in text


def test_tensorboard_and_offline_wandb_say_the_same_as_json_lines(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    records = [record(s) for s in range(1, 6)]
    expected = read_run(write_run(tmp_path / "json-seed1", records))
    writer = SummaryWriter(str(tmp_path / "board-seed1"))
    for r in records:
        for key, value in r["data"].items():
            writer.add_scalar(key, value, r["step"])
    writer.close()
    code = (
        "import json, sys, wandb\nrun = wandb.init(project='p', name='wandb-seed1', config={'data': {'seed': 1}})\n"
        "for line in open(sys.argv[1]):\n r = json.loads(line)\n run.log(r['data'], step=r['step'])\nrun.finish()\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "json-seed1" / "metrics-000.jsonl")],
        env=os.environ | {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path / "w"), "WANDB_SILENT": "true"},
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    board, (wandb,) = read_run(tmp_path / "board-seed1"), find_runs([tmp_path / "w"])[0]
    assert (board.name, wandb.name) == ("board-seed1", "wandb-seed1")
    assert wandb.config == {"data.seed": 1}
    for other in (board, wandb):
        assert other.notes == []
        assert other.series.keys() == expected.series.keys()
        for key, curve in expected.series.items():
            assert other[key] == pytest.approx(curve, rel=1e-6)

    # Cut off, and not what its name says.
    (file,) = (tmp_path / "w").glob("wandb/offline-run-*/*.wandb")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert "rest of" in read_run(file).notes[0]
    file.write_bytes(b"not wandb")
    with pytest.raises(NoRunError, match="not a wandb log"):
        read_run(file)
    events = tmp_path / "events.out.tfevents.1"
    events.write_bytes(b"\x00" * 100)
    with pytest.raises(NoRunError, match=r"events\.out\.tfevents\.1"):
        read_run(events)


def test_statistics():
    assert math.isnan(interval([1.0]))
    assert interval([1.0, 3.0]) == pytest.approx(12.706 * math.sqrt(2) / math.sqrt(2))
    assert interval([0.0, 1.0] * 50) == pytest.approx(1.984 * statistics.stdev([0.0, 1.0] * 50) / 10, rel=2e-3)
    assert smooth({1: 0.0, 2: 1.0, 4: 5.0}, 2) == {1: 0.0, 2: 0.5, 4: 3.0}
    both = band([{1: 0.0, 2: 1.0, 3: 7.0}, {1: 2.0, 2: 1.0}, {}])
    assert both.mean == {1: 1.0, 2: 1.0}  # the steps that both seeds have
    assert both.seeds == 2


def test_entropy_prediction_finds_the_constant(tmp_path):
    records, entropy = [], 2.0
    for s in range(1, 31):
        covariance = 1.0 + 0.5 * math.sin(s)
        records.append(record(s, **{"actor/entropy": entropy, "asymgrpo/cov_logprob_adv": covariance}))
        entropy -= 7.0 * 1e-3 * covariance
    run = read_run(write_run(tmp_path / "r-seed1", records))
    curves, constant, r = entropy_prediction([run], 5)
    assert constant == pytest.approx(7.0)
    assert r == pytest.approx(1.0)
    measured, predicted = curves[run.name]
    assert measured == pytest.approx(predicted)


def test_pass_at_k_of_the_first_and_last_steps(tmp_path):
    run = read_run(write_run(tmp_path / "r", [record(s) for s in range(1, 21)]))
    ends = training_pass_at_k(run, 5)
    assert ends[1][8] == pytest.approx(statistics.fmean(1 - (1 - (0.3 + 0.01 * s)) ** 8 for s in range(1, 6)))
    assert ends[20][1] == pytest.approx(statistics.fmean(0.3 + 0.01 * s for s in range(16, 21)))


@pytest.mark.ci
def test_hundred_runs_of_500_steps_in_half_a_minute(tmp_path):
    """With records as wide as verl's, and an evaluation every 20 steps."""
    filler = {f"timing_s/part_{i}": 0.123456789 for i in range(70)}
    for number in range(100):
        text = "".join(json.dumps(record(s, number % 5, **filler)) + "\n" for s in range(1, 501))
        write_run(tmp_path / "runs" / f"method{number // 5}-seed{number % 5}", [])
        (tmp_path / "runs" / f"method{number // 5}-seed{number % 5}" / "metrics-000.jsonl").write_text(text)
    # CPU seconds: one process does it all, and other work on the machine must not fail the test.
    began = sum(os.times()[2:4])
    command = [sys.executable, "-m", "recipe.asymgrpo.report", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "report of 100 runs" in done.stdout
    assert sum(os.times()[2:4]) - began < 30


# The committed report ------------------------------------------------------------------------------------------------


def test_committed_report_says_what_the_committed_logs_say():
    """docs/report: figures recomputed here from the logs beside it, without the report's own statistics."""
    logs = sorted((COMMITTED / "runs").glob("*/metrics-000.jsonl"))
    methods = {log.parent.name.rpartition("-seed")[0] for log in logs}
    assert methods >= {"asymgrpo", "grpo", "reinforce"}
    series: dict[str, list[dict[int, dict]]] = {method: [] for method in methods}
    for log in logs:
        steps: dict[int, dict] = {}
        for line in log.read_text().splitlines():
            r = json.loads(line)
            steps.setdefault(r["step"], {}).update(r["data"])
        series[log.parent.name.rpartition("-seed")[0]].append(steps)
    page = Page((COMMITTED / "report.html").read_text())
    assert len(page.data["table"]) >= 5 * len(methods)
    for row in page.data["table"]:
        seeds = series[row["method"]]
        assert row["seeds"] == len(seeds) >= 2
        for name in ("first", "last"):
            step = row[name]["step"]
            back = 1 if row["key"].startswith("val-core/") else 5
            values = [statistics.fmean(run[s][row["key"]] for s in range(step - back + 1, step + 1)) for run in seeds]
            assert row[name]["mean"] == pytest.approx(statistics.fmean(values))
            quantile = {2: 12.706, 3: 4.303}[len(values)]
            assert row[name]["half"] == pytest.approx(quantile * statistics.stdev(values) / math.sqrt(len(values)))
    size = sum(file.stat().st_size for file in COMMITTED.iterdir() if file.is_file())
    assert size < 6e5
    assert all(url.startswith("data:") for url in page.urls)
    assert build(find_runs([COMMITTED / "runs"])[0]).table() == page.data["table"]


def test_command_of_the_docs_makes_the_committed_report(tmp_path):
    """The same files with the same words and figures, in the palette and with the fonts of this machine."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    commands = [
        line
        for page in pages
        for line in page.read_text().splitlines()
        if line.startswith("python -m recipe.asymgrpo.report docs/report/runs ")
    ]
    (command,) = set(commands)
    words = [str(tmp_path) if word == "docs/report" else word for word in shlex.split(command)[1:]]
    assert str(tmp_path) in words
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    files = {file.name for file in COMMITTED.iterdir() if file.is_file()}
    assert {file.name for file in tmp_path.iterdir()} == files
    texts, images = [], []
    for folder in (COMMITTED, tmp_path):
        text = (folder / "report.html").read_text()
        pngs = [base64.b64decode(url.partition(",")[2]) for url in Page(text).urls]
        pngs += [(folder / name).read_bytes() for name in sorted(files) if name.endswith(".png")]
        texts.append(re.sub("base64,[^']*", "", text))
        images.append([np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float) for png in pngs])
    assert texts[0] == texts[1]
    for committed, made in zip(*images, strict=True):
        assert committed.shape == made.shape
        assert np.abs(committed - made).mean() < 2  # of 255; two figures of the report are 15 and more apart
