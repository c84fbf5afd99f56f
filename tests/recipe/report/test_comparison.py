"""Runs that were logged, validated or sampled differently, beside each other: shown, or named as left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recipe.asymgrpo.report import figures, painter
from recipe.asymgrpo.report.comparison import build
from recipe.asymgrpo.report.derived import pass_at_k_ends
from recipe.asymgrpo.report.page import main, summary, write
from recipe.asymgrpo.report.runs import Run


def run(name: str, steps: int = 10) -> Run:
    """A run whose entropy at step s is s/100."""
    return Run(name, Path(name), {"actor/entropy": {step: step / 100 for step in range(1, steps + 1)}}, config={"x": 1})


def with_keys(name: str, curves: dict[str, dict[int, float]], steps: int = 10) -> Run:
    found = run(name, steps)
    found.series |= curves
    return found


def groups_of(name: str, n: int, steps: int = 10) -> Run:
    ks = [k for k in (1, 2, 4, 8, 16) if k <= n]
    return with_keys(name, {f"asymgrpo/pass_at/{k}": dict.fromkeys(range(1, steps + 1), k / 20) for k in ks}, steps)


def accuracy(name: str, *keys: str) -> Run:
    return with_keys(name, {f"val-core/{key}": {0: 0.1, 10: 0.2} for key in keys})


def test_validation_of_several_sizes_is_shown_apart():
    report = build([accuracy("a", "gsm8k/acc/mean@4"), accuracy("b", "gsm8k/acc/mean@16")])
    rows = [(row["measure"], row["method"]) for row in report.table() if row["key"].startswith("val")]
    assert rows == [
        ("validation accuracy, gsm8k (acc/mean@4)", "a"),
        ("validation accuracy, gsm8k (acc/mean@16)", "b"),
    ]
    missing = "\n".join(report.missing())
    assert "No validation accuracy, gsm8k (acc/mean@4) in b: they were validated otherwise" in missing
    assert "No validation accuracy, gsm8k (acc/mean@16) in a" in missing


def test_one_run_that_changed_its_size_has_both():
    report = build([accuracy("a", "gsm8k/acc/mean@4", "gsm8k/acc/mean@16")])
    assert [measure.key[-7:] for measure in report.accuracies()] == ["/mean@4", "mean@16"]


def test_reward_and_acc_of_one_source():
    """A run's `acc` is preferred to its `reward`; a run that has only the other is not lost."""
    both = accuracy("a", "gsm8k/acc/mean@1", "gsm8k/reward/mean@1")
    assert [m.name for m in build([both]).accuracies()] == ["validation accuracy, gsm8k"]
    assert [m.key for m in build([both]).accuracies()] == ["val-core/gsm8k/acc/mean@1"]
    report = build([both, accuracy("b", "gsm8k/reward/mean@1")])
    assert {(row["key"], row["method"]) for row in report.table()} >= {
        ("val-core/gsm8k/acc/mean@1", "a"),
        ("val-core/gsm8k/reward/mean@1", "b"),
    }


def test_sources_that_some_runs_lack_are_named():
    report = build([accuracy("a", "gsm8k/acc/mean@1", "math/acc/mean@1"), accuracy("b", "math/acc/mean@1"), run("c")])
    lines = [line for line in report.missing() if "validation accuracy" in line]
    assert lines == [
        "No validation accuracy in c: set trainer.test_freq.",
        "No validation accuracy, gsm8k in b: they were validated otherwise "
        "(data.val_files, val_kwargs.n or the reward function).",
    ]


def test_pass_at_k_of_groups_of_4_and_8():
    report = build([groups_of("a-seed1", 4), groups_of("b-seed1", 8), groups_of("b-seed2", 8), run("plain")])
    rows = [(row["measure"], row["method"], row["seeds"]) for row in report.table() if "pass@" in row["measure"]]
    assert rows == [
        ("pass@4 on training prompts", "a", 1),
        ("pass@4 on training prompts", "b", 2),
        ("pass@8 on training prompts", "b", 2),
    ]
    lines = [line for line in report.missing() if "pass@" in line]
    assert lines == ["No pass@8 on training prompts in a: their groups have other sizes (actor_rollout_ref.rollout.n)."]
    alike = build([groups_of("a", 8), groups_of("b", 8)])
    assert [m.name for m in alike.pass_measures()] == ["pass@8 on training prompts"]


def test_seeds_of_100_and_10_steps():
    """Table, sentence, summary and pass@k speak of the step that both have, and name the run that went on."""
    report = build([groups_of("a-seed1", 4, 100), groups_of("a-seed2", 4, 10)], window=5)
    (row,) = (row for row in report.table() if row["key"] == "actor/entropy")
    assert (row["seeds"], row["last"]["step"]) == (2, 10)
    sentence, beyond = report.sentences()
    assert sentence.startswith("a (2 runs, to step 10): ")
    assert f"entropy 0.030 → {row['last']['mean']:.3f}." in sentence
    assert beyond == "a: its means end where one of its runs does; on went a-seed1 to step 100."
    assert beyond in summary(report)
    assert not any("100" in line for line in build([run("a-seed1", 100), run("b-seed1", 10)]).beyond())


def test_pass_at_k_of_seeds_of_100_and_10_steps(tmp_path):
    def rising(name: str, steps: int) -> Run:
        return with_keys(name, {"asymgrpo/pass_at/1": {s: s / 100 for s in range(1, steps + 1)}}, steps)

    first, last = pass_at_k_ends([rising("a-seed1", 100), rising("a-seed2", 10)], 5, held_out=False)
    assert [curve[1] for curve in first] == pytest.approx([0.03, 0.03])
    assert [curve[1] for curve in last] == pytest.approx([0.08, 0.08])  # steps 6 to 10 of both

    def dumped(name: str, steps: dict[int, int]) -> Run:
        found = run(name)
        for step, solved in steps.items():
            file = tmp_path / f"{name}-{step}.jsonl"
            file.write_text("".join(f'{{"input": "p", "score": {float(i < solved)}}}\n' for i in range(4)))
            found.validation[step] = file
        return found

    runs = [dumped("b-seed1", {0: 1, 10: 2, 100: 4}), dumped("b-seed2", {0: 1, 10: 2}), run("b-seed3")]
    first, last = pass_at_k_ends(runs, 5, held_out=True)
    assert [curve[1] for curve in first] == [0.25, 0.25]
    assert [curve[1] for curve in last] == [0.5, 0.5]
    (drawn,) = (
        f for _, group in figures.sections(painter.Painter(build(runs))) for f in group if f.name == "pass_at_k"
    )
    assert drawn.caption.endswith("Without b-seed3, where it was not measured.")


def test_measures_that_not_all_seeds_have():
    both = [accuracy("a-seed1", "gsm8k/acc/mean@1"), run("a-seed2", 20)]
    (sentence, beyond) = build(both).sentences()
    assert "validation accuracy, gsm8k 0.100 → 0.200 (1 of them)" in sentence
    assert beyond.endswith("on went a-seed2 to step 20.")
    early = accuracy("b", "gsm8k/acc/mean@1")
    early.series["actor/entropy"] = dict.fromkeys(range(1, 13), 1.0)
    assert "gsm8k 0.100 → 0.200 (to step 10)" in build([early]).sentences()[0]


def test_seeds_without_a_common_step():
    late = run("a-seed2", 30)
    late.series["actor/entropy"] = dict.fromkeys(range(20, 31), 1.0)
    report = build([run("a-seed1", 10), late])
    assert report.sentences() == ["a (2 runs, no figure that all of them have at one step)."]


def test_panels_and_files(tmp_path, capsys):
    """Each set its panel under a name that a file can have; those without one are named; files are chosen by name."""
    seven = [f"set {i}/a.b/acc/mean@1" for i in range(7)]
    report = build([accuracy("a", *seven)])
    files = write(report, tmp_path / "all")
    names = [file.stem for file in files if file.stem.startswith("accuracy")]
    assert len(set(names)) == figures.MOST_SOURCES == 6
    assert all(re.fullmatch(r"\w+", name) for name in names)
    assert "Panels are of the first 6 of 7 validation accuracies" in files[0].read_text()
    one = build([accuracy("a", "gsm8k/acc/mean@1")])
    assert [f.name for f in write(one, tmp_path / "one", ["accuracy"])] == ["report.html", "accuracy.png"]
    with pytest.raises(ValueError, match="no figure entrpy in this report; it has accuracy, entropy"):
        write(one, tmp_path / "none", ["entrpy"])
    assert not (tmp_path / "none").exists()
    (tmp_path / "a.jsonl").write_text('{"step": 1, "data": {"actor/entropy": 1.0}}\n')
    assert main([str(tmp_path / "a.jsonl"), "--out", str(tmp_path / "none"), "--png", "nothing"]) == 1
    assert "--png: no figure nothing in this report" in capsys.readouterr().err


def test_png_keeps_the_colours_of_methods_and_its_bytes():
    from io import BytesIO

    import matplotlib
    import numpy as np
    from PIL import Image

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axis = plt.subplots()
    for i, colour in enumerate(painter.COLOURS):
        axis.plot([0, 1], [i, i], color=colour, linewidth=3)
        axis.fill_between([0, 1], i, i + 0.5, color=colour, alpha=0.12)
    image = painter.png(drawing)
    assert image == painter.png(drawing)
    pixels = {tuple(pixel) for pixel in np.asarray(Image.open(BytesIO(image)).convert("RGB")).reshape(-1, 3)}
    plt.close(drawing)
    for colour in painter.COLOURS:
        assert tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) in pixels


def test_legend_counts_the_seeds_that_are_drawn():
    report = build([accuracy("a-seed1", "gsm8k/acc/mean@1"), run("a-seed2")])
    drawing = painter.Painter(report)
    figure, ((axis,),) = drawing.new()
    (measure,) = report.accuracies()
    drawing.lines(axis, "a", measure.curves(report.runs, 1))
    assert axis.get_legend_handles_labels()[1] == ["a (1 seed)"]
    drawing.plt.close(figure)


def test_several_metrics_in_a_panel_may_be_negative(monkeypatch):
    """Nothing that is drawn lies outside of its panel, and a panel without any metric is not drawn."""
    limits = []
    monkeypatch.setattr(painter, "png", lambda drawing: limits.append(drawing.axes[0].get_ylim()) or b"")
    drawing = painter.Painter(build([with_keys("a", {"x": {1: -0.5, 2: 0.5}, "y": {1: 1.0, 2: 2.0}})], window=1))
    assert drawing.several({"z": ("-", "z")}, "", "n", "t", "c") is None
    assert drawing.several({"x": ("-", "x"), "y": ("--", "y")}, "", "n", "t", "c") == painter.Figure("n", "t", "c", b"")
    assert drawing.several({"y": ("--", "y")}, "", "n", "t", "c")
    assert [low for low, _ in limits] == [-0.5, 0]
    assert all(high >= 2 for _, high in limits)
