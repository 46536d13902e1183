"""The stages of a run, each restartable by itself, with their state kept in status.json.

Each returns "done" or "preempted"; what fails is raised, its reason recorded.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scaling import hosts
from scaling.backend import keep_programs, prepare_jax
from scaling.closing import unless_lost
from scaling.config import Config, TaskConfig, config_hash, dump
from scaling.environment import environment
from scaling.files import RecordError, Row
from scaling.locks import claimed
from scaling.mend import mend
from scaling.records import Run
from scaling.status import writer
from scaling.structure import ConfigError

APPEARING_SECONDS = 90.0
"""Network file systems may say for a minute that a new file is not there."""


@contextlib.contextmanager
def together(cluster: hosts.Cluster) -> Iterator[None]:
    """With the other hosts of a run, if there are any; around all stages that train or evaluate."""
    keep_programs()
    with hosts.joined(cluster):
        yield


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """No other process trains or evaluates the run meanwhile. Raises ConfigError on every host where one does."""
    with contextlib.ExitStack() as held:
        hosts.first(lambda: held.enter_context(claimed(path)))
        yield


def mirrored(path: Path, config: Config, quiet: bool) -> contextlib.AbstractContextManager[None]:
    """With a mirror of the run in W&B, which belongs to the first host; around all stages of a command.

    Raises ConfigError, on every host, for an id in the environment that is none.
    """
    from scaling import tracking

    def say(line: str) -> None:
        if not quiet:
            with unless_lost(sys.stderr):
                print(line, file=sys.stderr, flush=True)

    hosts.first(lambda: tracking.check_environment(config.tracking))
    return tracking.mirrored(path, config.tracking, say) if hosts.is_first() else contextlib.nullcontext()


def train(path: Path, config: Config, stop: Callable[[], bool], *, evaluating: bool, quiet: bool) -> str:
    """Train into a directory, new or not; with `evaluating`, each checkpoint is evaluated as it appears.

    All hosts stop where one of them is asked to.
    """
    prepare_jax(config.mesh.cpu_devices)
    import jax

    from scaling import evaluate, sharding, tracking
    from scaling import train as training

    sharding.make_mesh(config.mesh)  # what does not fit the devices is said before anything is written
    devices = [f"{device.platform} {device.device_kind}" for device in jax.devices()]
    described = environment(["scaling", *sys.argv[1:]], devices) | task_file(config.task)
    run = hosts.first(lambda: Run.create(path, dump(config), config_hash(config), described))
    _share(run)
    hosts.first(lambda: _refuse_other_problems(run, config))
    with stage(run, "train"), tracking.Terminal(path, config, quiet or not hosts.is_first()) as terminal:
        _mend(run, terminal.message)

        def stopping() -> bool:
            return hosts.any_host(stop())

        def on_checkpoint(name: str) -> None:
            evaluate.evaluate(path, config, names=[name], terminal=terminal, stop=stopping)

        callback = on_checkpoint if evaluating else None
        state = training.train(path, config, terminal=terminal, on_checkpoint=callback, stop=stopping)
    _write_status(run, state, "train")
    return state


def task_file(task: TaskConfig) -> Row:
    """What tells the task's file of problems from another; nothing where there is none to read."""
    with contextlib.suppress(OSError, ValueError):  # a name that is none, be it: the task refuses it
        if task.path:
            return {"task_file": hashlib.blake2b(Path(task.path).read_bytes(), digest_size=16).hexdigest()}
    return {}


def _refuse_other_problems(run: Run, config: Config) -> None:
    """Raises ConfigError where the task's file has changed: the same numbers would be other problems."""
    with contextlib.suppress(RecordError):
        began, now = run.environment(), task_file(config.task)
        if now and began.get("task_file", now["task_file"]) != now["task_file"]:
            raise ConfigError(
                [f"{config.task.path}: changed since the run began; put it back, or start another run"]
            )


def _mend(run: Run, say: Callable[[str], None]) -> None:
    for line in hosts.first(lambda: mend(run)):
        say(line)


def _share(run: Run) -> None:
    """Wait until every host sees the run that the first one has. Raises ConfigError where one never does."""
    deadline = time.monotonic() + APPEARING_SECONDS
    while not (there := run.config_file.is_file()) and time.monotonic() < deadline:
        time.sleep(0.1)
    if hosts.any_host(not there):
        raise ConfigError([f"{run.path}: not there on every host; several hosts need one file system"])


def evaluate(
    path: Path, config: Config, stop: Callable[[], bool], *, names: Sequence[str] | None, quiet: bool
) -> str:
    """Evaluate what is missing: of the named checkpoints, or of all (None)."""
    prepare_jax(config.mesh.cpu_devices)
    from scaling import evaluate as evaluation
    from scaling import tracking

    run = hosts.first(lambda: Run.open(path))
    _share(run)
    hosts.first(lambda: _refuse_other_problems(run, config))
    with stage(run, "evaluate"), tracking.Terminal(path, config, quiet or not hosts.is_first()) as terminal:
        _mend(run, terminal.message)
        state = evaluation.evaluate(
            path, config, names=names, terminal=terminal, stop=lambda: hosts.any_host(stop())
        )
    _write_status(run, state, "evaluate")
    return state


def report(path: Path) -> dict[str, Any]:
    """Fit, draw, write the report; its facts."""
    prepare_jax()
    from analysis.report import write_report

    with _stage_unless_training(path, "report"):
        return write_report(path)


@contextlib.contextmanager
def _stage_unless_training(path: Path, name: str) -> Iterator[None]:
    """A stage that ends "done"; where another process trains the run, the status stays that one's."""
    run = Run.open(path)
    if writer(run) is not None:
        yield
        return
    with stage(run, name):
        yield
    _write_status(run, "done", name)


@contextlib.contextmanager
def stage(run: Run, name: str) -> Iterator[None]:
    """Records that a stage runs, and why it failed if it did."""
    _write_status(run, "running", name)
    try:
        with hosts.answered():
            yield
    except KeyboardInterrupt:
        _write_status(run, "preempted", name)
        raise
    except BaseException as error:
        with contextlib.suppress(OSError):  # the disk that is full may be the reason
            _write_status(run, "failed", name, f"{type(error).__name__}: {error}")
        raise


def _write_status(run: Run, state: str, stage: str, reason: str = "") -> None:
    if hosts.is_first():
        run.write_status(state, stage, reason)
