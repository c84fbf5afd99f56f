from __future__ import annotations

import json
import math
from collections import Counter
from fractions import Fraction
from itertools import combinations

import pytest

from recipe.asymgrpo.pass_at_k import Dump, ks_up_to, main, mean_pass_at_k, pass_at_k


@pytest.mark.parametrize("n", range(1, 9))
def test_is_the_share_of_subsets_with_a_success(n):
    for c in range(n + 1):
        outcomes = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            subsets = list(combinations(outcomes, k))
            assert pass_at_k(n, c, k) == pytest.approx(float(Fraction(sum(map(any, subsets)), len(subsets))))


def test_large_groups_stay_exact():
    assert pass_at_k(4096, 1, 1024) == pytest.approx(0.25)
    assert math.isfinite(pass_at_k(4096, 2000, 2048))


@pytest.mark.parametrize("arguments", [(0, 0, 1), (4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5)])
def test_impossible_arguments(arguments):
    with pytest.raises(ValueError, match="1 <= k <= n"):
        pass_at_k(*arguments)


def test_powers_of_two_and_all():
    assert [ks_up_to(n) for n in (0, 1, 2, 5, 8)] == [[], [1], [1, 2], [1, 2, 4, 5], [1, 2, 4, 8]]


def test_mean_is_over_problems_with_enough_samples():
    groups = Counter({(4, 2): 1, (4, 0): 1, (2, 2): 2})
    assert mean_pass_at_k(groups, 2) == pytest.approx((5 / 6 + 0 + 1 + 1) / 4)
    assert mean_pass_at_k(groups, 4) == pytest.approx(0.5)
    assert mean_pass_at_k(groups, 8) is None


def rows(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_reads_both_trainers_dumps(tmp_path):
    v1 = [{"uid": f"p{p}_{s}_0", "input": "x", "score": float(s < p)} for p in range(3) for s in range(4)]
    assert Dump(rows(tmp_path / "1.jsonl", v1)).groups == {(4, 0): 1, (4, 1): 1, (4, 2): 1}
    v0 = [{"input": f"q{p}", "score": float(s < p)} for p in range(3) for s in range(4)]
    assert Dump(rows(tmp_path / "2.jsonl", v0)).groups == {(4, 0): 1, (4, 1): 1, (4, 2): 1}


def test_rows_that_fill_a_batch_up_are_no_problem(tmp_path):
    """V1 dumps them: the whole groups that it adds where the batch is not divisible."""
    real = [{"uid": f"p_{s}_0", "input": "x", "score": 1.0} for s in range(4)]
    padding = [{"uid": f"pad{'0a' * 16}_{s}_0", "input": "", "score": 0.0} for s in range(12)]
    dump = Dump(rows(tmp_path / "1.jsonl", [*real, *padding]))
    assert dump.groups == {(4, 4): 1}
    assert dump.skipped == 0


def test_acc_counts_before_score_and_a_conversation_by_its_last_row(tmp_path):
    entries = [
        {"uid": "p_0_0", "input": "", "score": 1.0, "acc": 0.0},
        {"uid": "p_0_1", "input": "", "score": -1.0, "acc": True},
    ]
    assert Dump(rows(tmp_path / "1.jsonl", entries)).groups == {(1, 1): 1}


def test_what_cannot_be_used_is_counted_or_named(tmp_path, capsys):
    good = json.dumps({"uid": "p_0_0", "input": "", "score": 1})
    (tmp_path / "3.jsonl").write_text(
        good + "\n[1]\n{}\nnot json\n" + json.dumps({"input": "", "score": None}) + "\n" + "[" * 100_000
    )
    dump = Dump(tmp_path / "3.jsonl")
    assert (dump.skipped, dump.groups) == (5, {(1, 1): 1})
    (tmp_path / "4.jsonl").write_bytes(b"\xff\xfe\n")
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path), str(tmp_path / "empty"), str(tmp_path / "nowhere.jsonl")]) == 1
    out, err = capsys.readouterr()
    assert "1 problems (5 lines skipped)  pass@1 1.000" in out
    assert "4.jsonl: no generation in it" in err
    assert "validation_data_dir" in err
    assert "nowhere.jsonl" in err
    assert "Traceback" not in err


def test_command_on_a_folder_in_order_of_steps(tmp_path, capsys):
    for step in (10, 9):
        rows(tmp_path / f"{step}.jsonl", [{"uid": f"p_{s}_0", "input": "", "score": s < 2} for s in range(4)])
    assert main([str(tmp_path), "--k", "1", "2", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].rpartition("/")[2] for line in lines] == ["9.jsonl", "10.jsonl"]
    assert "pass@1 0.500  pass@2 0.833  pass@8 needs 8 samples a problem" in lines[0]


def legacy(problem: str, truth: object, solved: int, samples: int = 4) -> list[dict]:
    return [{"input": problem, "gts": truth, "score": float(s < solved)} for s in range(samples)]


def test_one_text_with_two_ground_truths_is_two_problems(tmp_path, capsys):
    """Dumps without a `uid`: the input alone would make one problem of 8 samples."""
    path = rows(tmp_path / "1.jsonl", legacy("What is x?", "1", 4) + legacy("What is x?", ["2"], 0))
    assert Dump(path).groups == {(4, 4): 1, (4, 0): 1}
    assert Dump(path).twice.total() == 0
    assert main([str(path)]) == 0
    assert "2 problems  pass@1 0.500" in capsys.readouterr().out


def test_a_problem_that_stands_twice_is_said(tmp_path, capsys):
    once = legacy("a", "1", 1) + legacy("b", "2", 2) + legacy("c", "3", 3)
    path = rows(tmp_path / "1.jsonl", once + legacy("b", "2", 0))
    assert Dump(path).groups == {(4, 1): 1, (8, 2): 1, (4, 3): 1}
    with_uid = [{**row, "uid": f"p{i // 4}_{i % 4}_0"} for i, row in enumerate(once + legacy("b", "2", 0))]
    other = rows(tmp_path / "2.jsonl", with_uid)
    assert Dump(other).groups == {(4, 1): 1, (4, 2): 1, (4, 3): 1, (4, 0): 1}
    assert main([str(path), str(other)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "3 problems (1 more than once in the data)" in first
    assert "4 problems (1 more than once in the data)" in second


def test_lost_lines_make_no_problem_stand_twice(tmp_path):
    entries = legacy("a", "1", 1, samples=1) + legacy("b", "2", 2) + legacy("c", "3", 3)
    assert Dump(rows(tmp_path / "1.jsonl", entries)).twice.total() == 0
    turns = [{"uid": f"p{p}_0_{turn}", "input": f"{p}{turn}", "score": 1} for p in "ab" for turn in (0, 1)]
    assert Dump(rows(tmp_path / "2.jsonl", turns)).twice.total() == 0
