"""A task's code that fails is named, with the problem and the completion; a verifier that hangs too."""

import random
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
from toy import TASK, Toy, problems

from scaling import verifying
from scaling.structure import ConfigError
from scaling.tasks import END, PAD, TaskError, make_demonstration, make_problem
from scaling.verifying import verify

TOKENS = np.array([[5, END, PAD], [6, END, PAD], [7, 8, END], [END, PAD, PAD]])


class Fails(Toy):
    """Fails at the third completion."""

    def verify(self, problem, completion):
        if completion[0] == 7:
            self.fail()
        return super().verify(problem, completion)

    def fail(self):
        raise ZeroDivisionError("division by zero")


class Hangs(Fails):
    def fail(self):
        while True:
            pass


def test_a_verifier_that_raises_is_a_line_with_task_problem_completion_and_place():
    with pytest.raises(TaskError) as error:
        verify(Fails(), problems(2), TOKENS)
    line = str(error.value)
    assert line.startswith("task test_verifying: its verifier raises ZeroDivisionError: division by zero (test_")
    assert f"at problem {problems(2)[1].index}, completion 0: " in line and "\n" not in line


def test_a_verifier_that_hangs_ends(monkeypatch):
    monkeypatch.setattr(verifying, "PATIENCE_SECONDS", 0.3)
    with pytest.raises(TaskError, match=r"takes more than 0\.3 s over problem 1, completion 0"):
        verify(Hangs(), [replace(p, index=i) for i, p in enumerate(problems(2))], TOKENS)


class Slow(Toy):
    """Is looked at this many times for each completion."""

    looks: int

    def verify(self, problem, completion):
        for _ in range(self.looks):
            signal.raise_signal(signal.SIGALRM)
        return super().verify(problem, completion)


def test_many_completions_may_take_long_together_but_none_alone(monkeypatch):
    monkeypatch.setattr(Slow, "looks", 1, raising=False)
    assert len(verify(Slow(), problems(2), np.repeat(TOKENS, 2, axis=0))) == 8
    monkeypatch.setattr(Slow, "looks", 2)
    with pytest.raises(TaskError, match="over problem 0, completion 0"):
        verify(Slow(), problems(2), TOKENS)


def test_outside_the_main_thread_nothing_is_watched():
    found = []
    thread = threading.Thread(target=lambda: found.extend(verify(TASK, problems(2), TOKENS)))
    thread.start()
    thread.join()
    assert len(found) == 4


class Unable(Toy):
    """Makes nothing."""

    error = ValueError("empty\nrange")

    def problem(self, *_):
        raise self.error

    demonstrate = problem


def test_a_problem_or_demonstration_that_cannot_be_made_is_a_line_with_task_and_place():
    with pytest.raises(TaskError) as error:
        make_problem(Unable(), 3, "train", 7)
    start = (
        "task test_verifying: making train problem 7 of seed 3 raises ValueError: empty (test_verifying.py, line "
    )
    assert str(error.value).startswith(start) and "\n" not in str(error.value)
    with pytest.raises(
        TaskError, match=r"making a count of problem 0 within 9 tokens raises ValueError: empty \("
    ):
        make_demonstration(Unable(), problems(1)[0], "count", 9, random.Random(0))


def test_a_config_that_asks_for_too_many_problems_is_no_failure_of_the_task(monkeypatch):
    monkeypatch.setattr(Unable, "error", ConfigError(["ask for fewer"]))
    with pytest.raises(ConfigError, match="ask for fewer"):
        make_problem(Unable(), 0, "eval", 7)
