"""recipe.asymgrpo.reward: what counts as a right answer."""

import builtins
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recipe.asymgrpo import reward
from recipe.asymgrpo.data import procedural_rows, write_parquet
from recipe.asymgrpo.reward import check_file, compute_score, extract_answer, procedural

pytest.importorskip("reasoning_gym")

SUM = "reasoning_gym/chain_sum"


def score(text, truth="-12", **kwargs):
    return compute_score(SUM, text, truth, **kwargs)


@pytest.mark.parametrize("style", ["short", "chat"])
def test_the_oracle_answer_of_every_row_is_right_and_another_is_not(style):
    for row in procedural_rows(train_size=40, val_size=1, prompt_style=style)["train"]:
        truth = row["reward_model"]["ground_truth"]
        assert compute_score(row["data_source"], truth, truth, row["extra_info"])["score"] == 1.0
        wrong = str(int(truth) + 1)
        assert compute_score(row["data_source"], wrong, truth, row["extra_info"])["score"] == 0.0


@pytest.mark.parametrize(
    "text",
    ["-12", " -12\n", "8 1 -12", "-12.0", "so 3-15=-12", "It is -12.", "<answer>-12</answer> of 7",
     r"\boxed{-12}, not 3", "<answer>about -12 apples</answer>", "<answer>1</answer> no: <answer>-12</answer>"],
)  # fmt: skip
def test_right(text):
    assert score(text) == {
        "score": 1.0,
        "acc": 1.0,
        "pred": score(text)["pred"],
        "gave_up": 0.0,
        "why": "the task's scorer",
        "set": SUM,
    }


@pytest.mark.parametrize(
    "text", ["", "12", "-12 13", "-1 2", "-120", "-", "=", "twelve", "<answer>3</answer> -12", r"\boxed{3} -12", None]
)
def test_wrong(text):
    assert score(text)["score"] == 0.0
    assert score(text)["acc"] == 0.0


def test_partial_credit_of_the_scorer_is_no_success():
    from reasoning_gym import get_score_answer_fn

    assert 0 < get_score_answer_fn("chain_sum")("x12", {"answer": "12"}) < 1
    assert compute_score(SUM, "1122", "12")["score"] == 0.0


def test_thousands_separators():
    expected = {"score": 1.0, "acc": 1.0, "pred": "1,234", "gave_up": 0.0, "why": "the task's scorer", "set": SUM}
    assert compute_score(SUM, "It makes 1,234, I think", "1234") == expected


def test_an_answer_that_is_no_number_is_taken_whole():
    assert extract_answer(" <answer> red 5 </answer>", numeric=False) == "red 5"
    assert extract_answer("red 5", numeric=True) == "5"


@given(st.text(st.characters(), max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_text_is_scored(text):
    result = score(text, extra_info={"metadata": "{}", "prompt_style": "short"})
    assert result["score"] in (0.0, 1.0)
    assert len(result["pred"]) <= reward.MAX_ANSWER_CHARS
    result["pred"].encode("utf-8")


@pytest.mark.parametrize(
    "text", ["\ud800 -12", "9" * 200_000, "<answer>" * 50_000, "1," * 99_999, "\x00", "-12" + " " * 4000]
)
def test_hostile_text_is_scored_quickly(text):
    assert score(text)["score"] == float(text.strip().endswith("-12"))


def test_a_scorer_that_trips_counts_as_wrong_and_is_logged(monkeypatch, caplog):
    def broken(answer, entry):
        raise KeyError("metadata")

    monkeypatch.setattr(procedural, "_scorer", lambda task: broken)
    assert score("-12")["score"] == 0.0
    assert "the scorer failed" in caplog.text


def test_unknown_sources_are_named():
    with pytest.raises(ValueError, match=r"'openai/humaneval'.*reasoning_gym/<task>.*boxed"):
        compute_score("openai/humaneval", "1", "1")
    with pytest.raises(ValueError, match=r"'reasoning_gym/chain_sums'.*reasoning_gym/chain_sum"):
        compute_score("reasoning_gym/chain_sums", "1", "1")


@pytest.mark.parametrize("task", ["spiral_matrix", "polynomial_multiplication", "puzzle24", "simple_integration"])
def test_tasks_whose_scorers_run_what_they_are_given_are_refused(task, tmp_path):
    """reasoning-gym's scorers of some tasks evaluate a response as a program."""
    with pytest.raises(ValueError, match=f"no scorer for data_source 'reasoning_gym/{task}'"):
        compute_score(f"reasoning_gym/{task}", f"open('{tmp_path}/ran', 'w')", "1")
    assert not (tmp_path / "ran").exists()
    row = {"data_source": f"reasoning_gym/{task}", "reward_model": {"ground_truth": "1"}}
    with pytest.raises(ValueError, match="row 0: no scorer"):
        check_file(write_parquet({"train": [row]}, tmp_path)["train"])


def test_missing_reasoning_gym_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("reasoning_gym"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    procedural._scorer.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r'pip install "verl-asymgrpo\[cpu\]"'):
        score("1")
    procedural._scorer.cache_clear()


COUNTDOWN = procedural_rows(train_size=40, val_size=1, task="countdown")["train"]


def solve(text, row=COUNTDOWN[0]):
    return compute_score(row["data_source"], text, row["reward_model"]["ground_truth"], row["extra_info"])["score"]


def test_countdown_takes_any_solution_and_no_other():
    for row in COUNTDOWN:
        truth = row["reward_model"]["ground_truth"]
        assert solve(truth, row) == 1.0
        assert solve(truth.replace(" ", ""), row) == 1.0
        assert solve(f"0+{truth}", row) == 0.0  # a number that was not given
        assert solve(str(eval(truth)), row) == 0.0
    first, *rest = COUNTDOWN[0]["reward_model"]["ground_truth"].split(" + ")
    assert solve(" + ".join([*rest, first])) == 1.0  # another order


def test_countdown_in_words_allows_sums_only():
    numbers = {"numbers": [5, 8, 5, 5, 3], "target": 6}
    for style, score in (("chat", 0.0), ("short", 1.0)):
        info = {"prompt_style": style, "metadata": json.dumps(numbers)}
        assert compute_score("reasoning_gym/countdown", "5-8*3+5*5", "5+5+5-8+3", info)["score"] == score


@pytest.mark.parametrize(
    "text",
    ["9**9**9**9", "9* *9**9", "__import__('os').getcwd()", "9//0", "1/0", "9" * 100, "(" * 60 + "1" + ")" * 60,
     "-" * 128, "1+\n9**9", "٣+٤", "lambda: 0", "", "1;2"],
)  # fmt: skip
def test_countdown_evaluates_arithmetic_only(text, monkeypatch):
    assert solve(text) == 0.0
    seen = []
    monkeypatch.setattr(procedural, "_scorer", lambda task: lambda answer, entry: seen.append(answer) or 0.0)
    solve(text)
    assert all(set(answer) <= set("0123456789 +-*/()") and "**" not in answer for answer in seen)


@pytest.mark.parametrize("truth", [None, "", "  ", "$", "~", ".", "\\left", float("nan")])
def test_a_row_without_an_answer_is_an_error(truth):
    with pytest.raises(ValueError, match="row without an answer"):
        compute_score("math", r"\boxed{}", truth)
    with pytest.raises(ValueError, match="row without an answer"):
        score("None", truth)


@pytest.mark.parametrize(("source", "package"), [("math", "math-verify"), (SUM, "reasoning-gym")])
def test_what_judges_a_files_answers_must_be_there(source, package, tmp_path, monkeypatch):
    row = {"data_source": source, "reward_model": {"ground_truth": "1"}}
    path = write_parquet({"train": [row]}, tmp_path)["train"]
    check_file(path)
    monkeypatch.setattr(reward.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {package}"):
        check_file(path)


def test_files_are_looked_through(tmp_path):
    rows = procedural_rows(train_size=6, val_size=1)["train"]
    good = write_parquet({"train": rows}, tmp_path)["train"]
    check_file(good)
    rows[4]["reward_model"]["ground_truth"] = None
    rows[5]["data_source"] = "poems"
    with pytest.raises(ValueError, match=r"train.parquet, row 4: .*without an answer.* \(1 more rows of 6") as error:
        check_file(write_parquet({"train": rows}, tmp_path)["train"])
    assert "Mend the rows" in str(error.value)
    rows[4]["reward_model"] = {"style": "rule", "ground_truth": "7"}
    with pytest.raises(ValueError, match=r"row 5: no scorer for data_source 'poems'"):
        check_file(write_parquet({"train": rows}, tmp_path)["train"])
    with pytest.raises(ValueError, match=r"row 0: reward_model.ground_truth is None"):
        check_file(write_parquet({"train": [{"data_source": "math"}]}, tmp_path)["train"])


def test_verl_leaves_words_out_of_its_metrics():
    """`why`, `pred` and `set` are texts among the figures of a validation."""
    metric_utils = pytest.importorskip("verl.trainer.ppo.metric_utils")
    rows = [compute_score(SUM, text, "12") for text in ("12", "13", "nothing", "12")]
    extra = {key: [row[key] for row in rows] for key in rows[0]}
    found = metric_utils.process_validation_metrics([SUM] * 4, ["a", "a", "b", "b"], extra)[SUM]
    assert {*found} == {"score", "acc", "gave_up"}
    assert found["acc"]["mean@2"] == 0.5
