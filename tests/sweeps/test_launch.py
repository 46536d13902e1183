"""The loop against an engine of fakes, whose jobs end as a script says."""

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict

import pytest

from scaling.records import Run
from scaling.structure import ConfigError
from sweeps.directory import Directory, Ended
from sweeps.expand import expand
from sweeps.file import parse
from sweeps.launch import Launch, Wish, tally

SWEEP = parse({"base": "tiny", "parameters": {"rl.recipe": {"values": ["rloo", "grpo", "cispo"]}}}, "test")
RUNS = expand(SWEEP)
NAMES = [planned.name for planned in RUNS]
ENDS = {
    "done": ("done", "report", ""),
    "preempted": ("preempted", "train", ""),
    "failed": ("failed", "train", "FloatingPointError: loss is nan"),
    "refused": ("failed", "train", "ConfigError: mesh.fsdp = 3: no"),
}


class Fake:
    """Jobs end one poll after their start: by the next of their run's ends, "killed" without a word."""

    def __init__(self, ends, width=99):
        self.ends = defaultdict(list, {name: list(script) for name, script in ends.items()})
        self.width, self.jobs, self.alive, self.started, self.cancelled = width, {}, set(), [], []

    def submit(self, jobs):
        handles = []
        for job in jobs:
            assert job.name not in {self.jobs[handle].name for handle in self.alive}, "a run twice at once"
            handles.append(str(len(self.jobs)))
            self.jobs[handles[-1]] = job
            self.alive.add(handles[-1])
            self.started.append(job.name)
        assert len(self.alive) <= self.width
        return handles

    def poll(self, handles):
        return {handle: self._hint(handle) for handle in handles}

    def _hint(self, handle):
        if handle not in self.alive:
            return "gone"
        job = self.jobs[handle]
        script = self.ends[job.name]
        end = script.pop(0) if script else "done"
        if end == "hang":
            return "running"
        self._end(handle, end)
        return "gone"

    def _end(self, handle, end):
        self.alive.discard(handle)
        job = self.jobs[handle]
        job.directory.mkdir(exist_ok=True)
        if end == "lost":
            job.log.write_text("bash: scaling: command not found\n")
        elif end == "killed":
            Run(job.directory).write_status("running", "train")
            status = json.loads(Run(job.directory).status_file.read_text())
            Run(job.directory).status_file.write_text(json.dumps({**status, "pid": 2**22 + 1}))
        else:
            Run(job.directory).write_status(*ENDS[end])

    def cancel(self, handles):
        self.cancelled += handles
        for handle in handles:
            self._end(handle, "preempted")


@pytest.fixture
def directory(tmp_path):
    made = Directory(tmp_path / "sweep")
    made.create(SWEEP)
    return made


def go(directory, engine, *, retries=2, slots=99, wish=None, forgive=False, judge=tuple):
    said = []
    launch = Launch(directory, "fake", lambda name: engine, slots, retries, said.append, judge, pause=0)
    return launch.go(RUNS, wish or Wish(), forgive=forgive), said


def test_all_runs_are_started_once_and_no_more_at_once_than_there_are_slots(directory):
    engine = Fake({name: ["hang", "hang"] for name in NAMES}, width=2)
    stands, _ = go(directory, engine, slots=2)
    assert tally(stands) == {"done": 3} and engine.started == NAMES


def test_started_again_a_sweep_does_what_is_missing(directory):
    stands, _ = go(directory, Fake({NAMES[1]: ["failed"]}), retries=0)
    assert tally(stands) == {"done": 2, "failed": 1}
    engine = Fake({})
    go(directory, engine, retries=1)
    assert engine.started == [NAMES[1]]


def test_preempted_runs_go_on_however_often_and_failed_ones_up_to_a_limit(directory):
    engine = Fake({NAMES[0]: ["preempted"] * 9, NAMES[1]: ["failed"] * 9, NAMES[2]: ["failed", "killed"]})
    stands, said = go(directory, engine)
    assert [stands[name].state for name in NAMES] == ["done", "failed", "done"]
    assert [engine.started.count(name) for name in NAMES] == [10, 3, 3]
    assert stands[NAMES[1]].reason == "FloatingPointError: loss is nan"
    assert f"given up   {NAMES[1]}: failed 3 times: FloatingPointError: loss is nan" in said
    rows = [json.loads(line) for line in directory.attempts_file.read_text().splitlines()]
    assert [row["after"] for row in rows if row["run"] == NAMES[2]][1:] == [
        *("failed: FloatingPointError: loss is nan", f"dead: process {2**22 + 1} is gone")
    ]


def test_failures_are_remembered_until_they_are_forgiven(directory):
    go(directory, Fake({NAMES[1]: ["failed"] * 9}))
    engine = Fake({NAMES[1]: ["failed"] * 9})
    go(directory, engine)
    assert engine.started == []
    stands, _ = go(directory, Fake({NAMES[1]: ["failed", "failed"]}), forgive=True)
    assert tally(stands) == {"done": 3}


@pytest.mark.parametrize("end", ["refused", "lost"])
def test_what_is_refused_stays_refused(directory, end):
    engine = Fake({NAMES[0]: [end] * 9})
    if end == "lost":
        directory.config_file(NAMES[0]).write_text("rl: {samples: 1}\n")
    stands, _ = go(directory, engine)
    assert engine.started.count(NAMES[0]) == 1 and stands[NAMES[0]].state == "failed"
    assert ("rl.samples = 1" if end == "lost" else "mesh.fsdp = 3") in stands[NAMES[0]].reason


def test_what_ends_before_it_begins_is_tried_again_and_its_last_words_are_the_reason(directory):
    stands, _ = go(directory, Fake({NAMES[0]: ["lost"] * 9}))
    assert stands[NAMES[0]].state == "failed" and stands[NAMES[0]].reason == "bash: scaling: command not found"


def test_runs_of_a_launcher_that_died_are_adopted_while_they_run(directory):
    former = Fake({name: ["hang"] * 9 for name in NAMES})
    launch = Launch(directory, "fake", lambda name: former, 99, 2, print, pause=0)
    launch._start(RUNS, launch._look(NAMES))
    stands, _ = go(directory, former)
    assert tally(stands) == {"done": 3} and former.started == NAMES


@pytest.mark.parametrize(
    ("at_a_terminal", "numbers", "levels"),
    [
        (True, [signal.SIGINT, signal.SIGINT], [1, 2]),
        (True, [signal.SIGTERM], [2]),
        (False, [signal.SIGINT], [2]),
    ],
)
def test_an_interrupt_at_a_terminal_asks_first_and_elsewhere_stops(monkeypatch, at_a_terminal, numbers, levels):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: at_a_terminal)
    with Wish() as wish:
        for number, level in zip(numbers, levels, strict=True):
            os.kill(os.getpid(), number)
            assert wish.level == level
        with pytest.raises(KeyboardInterrupt):  # asked to stop already, the next one leaves the jobs to it
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("said", "level"), [("y\n", 2), ("no\n", 1)])
def test_the_question_is_put_once_and_y_stops(monkeypatch, capsys, said, level):
    answers, told = os.pipe()
    monkeypatch.setattr(sys, "stdin", os.fdopen(answers))
    wish = Wish()
    wish.level = 1
    wish.ask(3)
    os.write(told, said.encode())
    wish.ask(3)
    os.close(told)
    assert wish.level == level and capsys.readouterr().err.count("3 go on. Stop them too?") == 1


@pytest.mark.parametrize("asked", ["signal", "file"])
def test_asked_to_stop_it_starts_no_more_and_stops_the_running_ones_resumably(directory, asked):
    engine, wish = Fake({name: ["hang"] * 99 for name in NAMES}), Wish()
    cancel, polls = engine.poll, []

    def poll(handles):
        polls.append(handles)
        if len(polls) == 3:
            if asked == "signal":
                wish.level = 2
            else:
                directory.stop_file.touch()
        return cancel(handles)

    engine.poll = poll
    stands, _ = go(directory, engine, slots=2, wish=wish)
    assert tally(stands) == {"preempted": 2, "waiting": 1} and engine.cancelled == ["0", "1"]
    directory.stop_file.unlink(missing_ok=True)
    stands, _ = go(directory, Fake({}))
    assert tally(stands) == {"done": 3}


def test_a_second_launcher_is_refused_until_the_first_is_dead(directory):
    code = f"""
from pathlib import Path
from sweeps.directory import Directory, Ended
with Directory(Path({str(directory.path)!r})).locked():
    print("locked", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        with pytest.raises(ConfigError, match=f"process {other.pid} on .* is launching it"), directory.locked():
            pass
        other.kill()
    with directory.locked():
        pass


def test_what_the_stopping_rule_ends_is_cancelled_said_and_not_started_again_until_asked_for(directory):
    ended = [Ended(name, 1.0, "arm", 0.01, "no good") for name in NAMES[:2]]
    rulings = [[], ended]
    engine = Fake({NAMES[0]: ["hang"] * 99, NAMES[2]: ["hang"] * 5}, width=1)
    stands, said = go(directory, engine, slots=1, judge=lambda: rulings.pop(0) if rulings else [])
    assert tally(stands) == {"ended": 2, "done": 1} and len(engine.cancelled) == 1
    assert engine.started == [NAMES[0], NAMES[2]], "the second had not begun"
    assert next(line for line in said if line.startswith("ended")).endswith("arm: no good")
    again = Fake({})
    assert tally(go(directory, again)[0]) == {"ended": 2, "done": 1} and again.started == []
    assert tally(go(directory, again, forgive=True)[0]) == {"done": 3}
    assert tally(go(directory, again)[0]) == {"done": 3}
