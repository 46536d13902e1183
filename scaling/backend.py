"""What JAX and the C library are told before JAX has devices. This module starts without JAX."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import sys
from pathlib import Path

from scaling import hosts

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Options of mallopt, from malloc.h."""


def prepare_jax(cpu_devices: int = 1) -> None:
    """Before JAX has devices: keep compiled programs, all of them, between processes; split the CPU."""
    keep_programs()
    _keep_memory()
    os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(cpu_devices))
    if cpu_devices > 1 and "xla_cpu_multi_thread_eigen" not in os.environ.get("XLA_FLAGS", ""):
        one_thread = "--xla_cpu_multi_thread_eigen=false"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {one_thread}".strip()
    if hosts.several():  # JAX is there already: the config came from another host
        import jax

        jax.config.update("jax_num_cpu_devices", int(os.environ["JAX_NUM_CPU_DEVICES"]))


def _keep_memory() -> None:
    """Memory that is freed stays the process's.

    glibc gives large blocks back at once, and XLA asks for its scratch at every call anew: without this a quarter
    of a training step on a CPU is the kernel filling pages with zeros. (mallopt(3); other C libraries lack it.)
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1)):
            mallopt(option, value)


def keep_programs() -> None:
    """Compiled programs stay on disk for later processes.

    In a folder for each kind of processor, because a home directory may serve several and programs do not move.
    """
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else platform.processor()
    features = sorted({line for line in text.splitlines() if line.startswith(("flags", "Features"))})
    kind = hashlib.blake2b("".join(features).encode(), digest_size=4).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / f"jax-{platform.machine()}-{kind}"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
