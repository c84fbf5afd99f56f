"""Logs of resumed trainings: what a later start did again was abandoned, in whatever logger."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recipe.asymgrpo.report.page import main
from recipe.asymgrpo.report.runs import Run, find_runs, read_run

VAL = "val-core/gsm8k/acc/mean@4"
FIRST, SECOND = 1.0, 2.0  # the entropy that a start logs


def start(first: int, last: int, entropy: float) -> list[dict]:
    """What verl logs from resuming before step `first` to step `last`, validating every fifth step."""
    records: list[dict] = [{"step": first - 1, "data": {VAL: entropy / 10}}]
    for step in range(first, last + 1):
        data = {VAL: entropy / 10} if step % 5 == 0 else {}
        records.append({"step": step, "data": data | {"actor/entropy": entropy, "asymgrpo/none_solved": 0.1}})
    return records


STARTS = [start(1, 10, FIRST), start(6, 8, SECOND)]


def check(run: Run) -> None:
    assert run.steps == [1, 2, 3, 4, 5, 6, 7, 8]
    expected = {step: FIRST if step < 6 else SECOND for step in range(1, 9)}
    assert run["actor/entropy"] == expected
    assert run["asymgrpo/none_solved"] == pytest.approx(dict.fromkeys(range(1, 9), 0.1))
    # Step 5 is measured by both starts, with the same policy; step 10 never was reached again.
    assert run[VAL] == pytest.approx({0: 0.1, 5: 0.2})
    (note,) = run.notes
    assert note.startswith("steps 9 to 10 of an abandoned start left out")


def as_lines(records: list[dict]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def write_files(folder: Path, starts: list[list[dict]] = STARTS) -> Path:
    """The quickstart's: one file a start."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, records in enumerate(starts):
        (folder / f"metrics-{number:03d}.jsonl").write_text(as_lines(records))
    return folder


def write_events(folder: Path, starts: list[list[dict]] = STARTS) -> Path:
    """As verl's adapter does, a writer a start; files are named by the second and the process."""
    from torch.utils.tensorboard import SummaryWriter

    for number, records in enumerate(starts):
        writer = SummaryWriter(str(folder / f"{number}"))
        for record in records:
            for key, value in record["data"].items():
                writer.add_scalar(key, value, record["step"])
        writer.close()
        (file,) = (folder / f"{number}").iterdir()
        file.rename(folder / f"events.out.tfevents.17000000{number:02d}.host.1.0")
        (folder / f"{number}").rmdir()
    return folder


@pytest.fixture(scope="module")
def wandb_folder(tmp_path_factory) -> Path:
    """One id, two starts, offline."""
    folder = tmp_path_factory.mktemp("wandb")
    code = (
        "import json, sys, wandb\nrun = wandb.init(project='p', name='w-seed1', id='abc', resume='allow')\n"
        "for line in open(sys.argv[1]):\n r = json.loads(line)\n run.log(r['data'], step=r['step'])\nrun.finish()\n"
    )
    env = os.environ | {"WANDB_MODE": "offline", "WANDB_DIR": str(folder), "WANDB_SILENT": "true"}
    for number, records in enumerate(STARTS):
        (folder / "records").write_text(as_lines(records))
        command = [sys.executable, "-c", code, str(folder / "records")]
        subprocess.run(command, env=env, cwd=folder, check=True, timeout=300)
        (made,) = (f for f in (folder / "wandb").glob("offline-run-*-abc") if "_00000" not in f.name)
        made.rename(folder / "wandb" / f"offline-run-20251124_00000{number}-abc")
    (folder / "records").unlink()
    return folder


def test_file_logger(tmp_path):
    check(read_run(write_files(tmp_path / "a-seed1")))


def test_one_file_that_goes_back(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(map(as_lines, STARTS)))
    check(read_run(tmp_path / "a.jsonl"))


def test_tensorboard(tmp_path):
    check(read_run(write_events(tmp_path / "a-seed1")))


def test_tensorboard_of_several_experiments(tmp_path, monkeypatch):
    """As verl lays them out below the folder it was started in: each experiment is a run, one alone is the folder's."""
    write_events(tmp_path / "tensorboard_log" / "project" / "a-seed1")
    check(read_run(tmp_path))
    write_events(tmp_path / "tensorboard_log" / "project" / "a-seed2", STARTS[:1])
    monkeypatch.chdir(tmp_path)
    for place in (".", "tensorboard_log/project"):
        runs, problems = find_runs([Path(place)])
        assert not problems
        assert [(run.name, len(run.steps)) for run in runs] == [("a-seed1", 8), ("a-seed2", 10)]
        check(runs[0])


def test_the_folder_one_is_in_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(write_files(tmp_path / "a-seed1"))
    (run,), _ = find_runs([Path()])
    assert run.name == "a-seed1"


def test_verls_own_loggers(tmp_path, monkeypatch):
    """The same by verl's Tracking, started twice."""
    from verl.utils.tracking import Tracking

    monkeypatch.setenv("TENSORBOARD_DIR", str(tmp_path / "board-seed1"))
    (tmp_path / "file-seed1").mkdir()
    for number, records in enumerate(STARTS):
        monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "file-seed1" / f"metrics-{number:03d}.jsonl"))
        tracking = Tracking("project", "experiment", ["file", "tensorboard"])
        for record in records:
            tracking.log(record["data"], record["step"])
        tracking.finish()
    runs, problems = find_runs([tmp_path])
    assert not problems
    assert [run.name for run in runs] == ["board-seed1", "file-seed1"]
    for run in runs:
        check(run)


def test_wandb(wandb_folder):
    (run,), problems = find_runs([wandb_folder])
    assert not problems
    check(run)


def test_wandb_with_other_runs_beside_it(wandb_folder, tmp_path):
    """Several ids in a folder: each is one run, however often it was started and from wherever one looks."""
    shutil.copytree(wandb_folder / "wandb", tmp_path / "wandb", symlinks=True)
    (tmp_path / "wandb" / "offline-run-20251124_000001-abc").rename(tmp_path / "wandb" / "run-20251124_000001-abc")
    other = tmp_path / "wandb" / "offline-run-20251124_000000-xyz"
    shutil.copytree(tmp_path / "wandb" / "offline-run-20251124_000000-abc", other)
    (other / "run-abc.wandb").rename(other / "run-xyz.wandb")
    for place in (tmp_path, tmp_path / "wandb"):
        runs, problems = find_runs([place])
        assert not problems
        assert [len(run.steps) for run in runs] == [8, 10]
        check(runs[0])


def test_a_start_that_comes_back_to_the_last_step_leaves_nothing_of_it(tmp_path):
    """The last step is validated; with more steps to do, the same step no longer is."""
    first = [{"step": s, "data": {"actor/entropy": 1.0} | ({VAL: 0.5} if s == 3 else {})} for s in (1, 2, 3)]
    second = [{"step": s, "data": {"actor/entropy": 2.0}} for s in (3, 4)]
    run = read_run(write_files(tmp_path / "a", [first, second]))
    assert run["actor/entropy"] == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}
    assert run[VAL] == {}
    assert run.notes == []


def test_three_starts_and_one_that_only_validates(tmp_path):
    only = [{"step": 4, "data": {VAL: 0.7}}]
    run = read_run(write_files(tmp_path / "a", [*STARTS, start(3, 4, 3.0), only]))
    assert run["actor/entropy"] == {1: 1.0, 2: 1.0, 3: 3.0, 4: 3.0}
    assert run[VAL] == {0: 0.1, 2: 0.3, 4: 0.7}
    (note,) = run.notes
    assert note.startswith("steps 5 to 10 of an abandoned start")


def test_what_an_abandoned_step_lacked_is_not_told(tmp_path):
    bad = [{"step": 9, "data": {"actor/entropy": math.nan}}]
    run = read_run(write_files(tmp_path / "a", [STARTS[0] + bad, STARTS[1]]))
    assert not any("not finite" in note for note in run.notes)
    run = read_run(write_files(tmp_path / "b", [STARTS[0], [*STARTS[1], *bad]]))
    assert any("actor/entropy at 1 step" in note for note in run.notes)
    assert run["actor/entropy"].keys() == set(range(1, 9))


def test_dumps_of_abandoned_steps_are_not_read(tmp_path):
    """verl's dumps of an abandoned start stay in their folder."""
    plain = [[{"step": r["step"], "data": {"actor/entropy": 1.0}} for r in records[1:]] for records in STARTS]
    run = write_files(tmp_path / "a", plain)
    rows = [{"uid": f"p{p}_{i}_0", "input": "", "score": float(i < p)} for p in range(4) for i in range(4)]
    for name in ("rollouts", "validation"):
        (run / name).mkdir()
        for step in range(1, 11):
            (run / name / f"{step}.jsonl").write_text(as_lines(rows))
    found = read_run(run)
    assert found.steps == list(range(1, 9))
    assert found["asymgrpo/none_solved"] == dict.fromkeys(range(1, 9), 0.25)
    assert max(found.validation) == 8


def test_generations_in_tensorboard_do_not_end_its_reading(tmp_path):
    """verl writes its samples of validation as text beside the figures."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(tmp_path / "a"))
    writer.add_text("val/generations", "1+1=2", 0)
    writer.add_scalar("actor/entropy", 1.0, 1)
    writer.close()
    run = read_run(tmp_path / "a")
    assert run["actor/entropy"] == {1: 1.0}
    assert run.notes == []


def test_page_of_a_resumed_run(tmp_path):
    """No best at a step that was abandoned, and the page says what is left out."""
    starts = [start(1, 10, FIRST), start(6, 8, SECOND)]
    starts[0][9]["data"]["actor/entropy"] = 99.0
    assert starts[0][9]["step"] == 9
    run = write_files(tmp_path / "a-seed1", starts)
    assert main([str(run), "--out", str(tmp_path / "out"), "--png"]) == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["report.html"]
    text = (tmp_path / "out" / "report.html").read_text()
    rows = json.loads(text.split("id=data>")[1].split("</script>")[0])["table"]
    assert {row[name]["step"] for row in rows for name in ("first", "best", "last")} <= set(range(9))
    assert "8 training steps, 1 to 8" in text
    assert "steps 9 to 10 of an abandoned start left out" in text
