"""Several processes that are one run: how they find each other, and what they must agree on.

Every process (a host here, be it a machine or one GPU's process on it) runs the same program on the same values,
with arrays split over the devices of all. What a disk, a clock or a signal says may differ between hosts, so the
course of the program depends on such things only through `first` and `any_host`, which all hosts must call alike.
Where there is one process, all of this is nothing.

A host that dies takes the others with it, which come to know in three ways: a collective fails at once and raises
HostError; JAX aborts a process (SIGABRT) at once where the first host is gone, and where another has sent no sign
of life for 100 seconds. All of them, started again, go on.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, TypeVar

from tyro.conf import arg

from scaling.structure import ConfigError
from scaling.trouble import first_line

T = TypeVar("T")
ANSWER_MS = 3_600_000
"""Longest wait for what the first host decides; should it die, the wait ends at once."""
LEAVING_SECONDS = 30
"""Longest wait for the others to leave. A host that fails alone ends after it, and with it all others."""

SILENCE = ("Gloo ", "NCCL ", "coordination service")
"""Words of the transports in errors that say that another host does not answer; JAX has no type for them."""


class HostError(RuntimeError):
    """Another host of the run is gone."""


@dataclass(frozen=True)
class Cluster:
    """Which host of how many this process is, where no launcher says it."""

    coordinator: Annotated[str | None, arg(metavar="HOST:PORT")] = None
    """Several hosts without Slurm or a TPU pod: where host 0 listens."""
    hosts: Annotated[int | None, arg(metavar="N")] = None
    """How many there are."""
    host: Annotated[int | None, arg(metavar="I")] = None
    """Which one this is, from 0."""


ALONE = Cluster()
"""No flag given: alone, unless a launcher says otherwise."""


@dataclass
class _Here:
    host: int = 0
    hosts: int = 1
    decisions: int = 0


_here = _Here()


def is_first() -> bool:
    """Whether this is the host that writes the records and talks."""
    return _here.host == 0


def several() -> bool:
    """Whether other hosts take part now."""
    return _here.hosts > 1


@contextlib.contextmanager
def answered() -> Iterator[None]:
    """Raises HostError for an error that says that another host is gone."""
    try:
        yield
    except Exception as error:
        if not several() or isinstance(error, HostError) or not any(word in str(error) for word in SILENCE):
            raise
        raise HostError(
            f"another host is gone ({first_line(error)}); the same command on all hosts goes on"
        ) from error


def leave(code: int) -> NoReturn:
    """End this process with a code at once: goodbyes, which JAX says at exit, would wait for the host that is gone
    and then abort."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def joined(cluster: Cluster) -> Iterator[None]:
    """Connected with the other hosts, if there are any; to be entered before JAX has devices.

    After an exception nobody says goodbye here: JAX does as the process ends, when the reason has been printed.
    Raises ConfigError for flags that say nothing or contradict each other, HostError where another host is gone.
    """
    check(cluster)
    launched = cluster.hosts is None and _launched()
    if not launched and cluster.hosts in (None, 1):
        yield
        return
    import jax
    from jax._src import distributed

    jax.config.update("jax_enable_preemption_service", False)  # its handler of SIGTERM would stand in for ours
    jax.distributed.initialize(
        cluster.coordinator,
        cluster.hosts,
        cluster.host,
        cluster_detection_method=None if launched else "deactivate",
        shutdown_timeout_seconds=LEAVING_SECONDS,
    )
    _here.host, _here.hosts = distributed.global_state.process_id, distributed.global_state.num_processes
    with answered():
        yield
        first(lambda: None)  # the first host had more to write, and is not to be left
    _here.hosts = 1
    jax.distributed.shutdown()


def check(cluster: Cluster) -> None:
    """Raise ConfigError with a line for every flag that cannot be meant."""
    coordinator, hosts, host = cluster.coordinator, cluster.hosts, cluster.host
    if cluster == ALONE:
        return
    if coordinator is None or hosts is None or host is None:
        missing = [f"--{name}" for name, value in vars(cluster).items() if value is None]
        raise ConfigError([f"{', '.join(missing)}: missing; --coordinator, --hosts and --host go together"])
    name, _, port = coordinator.rpartition(":")
    lines = []
    if not (name and port.isdecimal() and 0 < int(port) < 2**16):
        lines.append(f"--coordinator = {coordinator}: must be HOST:PORT, such as 10.0.0.1:1234")
    if hosts < 1:
        lines.append(f"--hosts = {hosts}: must be at least 1")
    elif not 0 <= host < hosts:
        lines.append(f"--host = {host}: must be from 0 to {hosts - 1}, below --hosts")
    if lines:
        raise ConfigError(lines)


def _launched() -> bool:
    """Whether srun or a TPU pod runs several of us; JAX then finds out the rest.

    Inside an allocation SLURM_NTASKS is set even in a shell; the number of a step's tasks is 1 there.
    """
    if "SLURM_STEP_NUM_TASKS" in os.environ:
        return int(os.environ["SLURM_STEP_NUM_TASKS"]) > 1
    if importlib.util.find_spec("libtpu") is None:
        return False
    from jax._src.clusters import GceTpuCluster, GkeTpuCluster

    try:
        return any(pod.is_env_present() and pod.get_process_count() > 1 for pod in (GkeTpuCluster, GceTpuCluster))
    except OSError:  # no metadata server that would know of a pod
        return False


def first(decide: Callable[[], T]) -> T:
    """What the first host decides or does, on every host; what it raises is raised on every host."""
    if not several():
        return decide()
    from jax._src import distributed

    client: Any = distributed.global_state.client
    _here.decisions += 1
    key = f"scaling/{_here.decisions}"
    value = error = None
    if is_first():
        try:
            value = decide()
        except Exception as raised:
            error = raised
        client.key_value_set_bytes(key, pickle.dumps((value, error)))
    else:
        value, error = pickle.loads(client.blocking_key_value_get_bytes(key, ANSWER_MS))
    if error is not None:
        raise error
    return value  # pyright: ignore[reportReturnType]: what `decide` returned


def any_host(flag: bool) -> bool:
    """Whether the flag is up on any host."""
    if not several():
        return flag
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(flag)).any())
