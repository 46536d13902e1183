"""A file of problems: JSON lines with prompt, answer, and optionally solution, difficulty and split.

    {"prompt": "3 + 4 =", "answer": "7", "solution": "4 + 3 = 7"}

Text is read character by character: printable ASCII and line feeds. A line feed is added to the prompt, so
that the model sees where it ends; in thinking, it ends a step. `solution` is the thinking of a demonstration.
The answer is matched exactly after stripping, but for numbers, of which `7`, `+7.0` and `007` are the same.
Problems without a `split` are assigned by a hash of the prompt, whatever else is in the file. The difficulty
(a positive integer, 1 if absent) is a label; `task.difficulty_min` and `difficulty_max` do not select by it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from scaling.config import TaskConfig
from scaling.structure import ConfigError, read_text
from scaling.tasks import ANSWER, END, SPECIALS, Demonstration, Problem, Split, Task, Verdict, split_of

CHARACTERS = ("\n", *map(chr, range(32, 127)))
VOCAB = (*SPECIALS, *CHARACTERS)
TOKEN = {character: token for token, character in enumerate(VOCAB) if token >= len(SPECIALS)}
FIELDS = ("prompt", "answer", "solution", "difficulty", "split")


def make(config: TaskConfig) -> Task:
    """The task of the file at `config.path`; raises ValueError with the line and field that are wrong."""
    if not config.path:
        raise ValueError("task.path: problem_file needs the path of a JSONL file of problems")
    return ProblemFile(config.path, tuple(_read(Path(config.path))))


@dataclass(frozen=True)
class Entry:
    """One line of the file. Texts are stripped; the answer is canonical, as votes are."""

    prompt: str
    answer: str
    solution: str | None
    difficulty: int
    split: Split
    key: str


class ProblemFile:
    vocab = VOCAB
    step_tokens: tuple[int, ...] = (TOKEN["\n"],)

    def __init__(self, path: str, entries: Sequence[Entry]):
        self.path = path
        self.entries: dict[Split, list[Entry]] = {
            split: [entry for entry in entries if entry.split == split] for split in ("train", "eval")
        }
        self.prompt_tokens: int = max(len(entry.prompt) for entry in entries) + 1
        self.answer_tokens: int = max(len(entry.answer) for entry in entries) + 1
        solved = all(entry.solution is not None for entry in self.entries["train"])
        self.demos: tuple[str, ...] = ("trace",) if solved and self.entries["train"] else ()

    def problem(self, seed: int, split: Split, index: int) -> Problem:
        """The problem at a place of the split in an order that depends on the seed.

        Training starts over when the file is through; raises ConfigError where evaluation asks for more
        problems than there are.
        """
        entries = self.entries[split]
        if not entries or (split == "eval" and index >= len(entries)):
            asked = f"has {len(entries)} {split} problems, but number {index + 1} is asked for"
            remedy = "set evaluation.problems to at most that" if entries else "add some, or give them this split"
            raise ConfigError([f"{self.path}: {asked}; {remedy}"])
        entry = entries[_order(seed, split, len(entries))[index % len(entries)]]
        return Problem(index, entry.difficulty, entry.key, tuple(_tokens(entry.prompt + "\n")), entry)

    def demonstrate(self, problem: Problem, kind: str, budget: int, rng: random.Random) -> Demonstration:
        """trace: the solution as the thinking, then the answer, forced where the solution is cut."""
        entry: Entry = problem.data
        if kind not in self.demos or entry.solution is None:
            known = self.demos or "none, for not all its training problems have a solution"
            raise ValueError(f"demo: {kind!r} is not a demonstration of {self.path}; known: {known}")
        thinking = _tokens(entry.solution)
        forced = budget if len(thinking) > budget else None
        return Demonstration((*thinking[:budget], ANSWER, *_tokens(entry.answer), END), forced)

    def verify(self, problem: Problem, completion: Sequence[int]) -> Verdict:
        """The answer is the text between the first `ANSWER` and the `END` that closes the completion.

        It must not be longer than the longest answer of the file. The thinking is not checked.
        """
        start = next((i for i, token in enumerate(completion) if token in (ANSWER, END)), len(completion))
        tail = list(completion[start : start + self.answer_tokens + 2])
        if not (1 < len(tail) < self.answer_tokens + 2 and tail[0] == ANSWER and tail[-1] == END):
            return Verdict(False, None)
        if not all(len(SPECIALS) <= token < len(VOCAB) for token in tail[1:-1]):
            return Verdict(False, None)
        answer = canonical("".join(VOCAB[token] for token in tail[1:-1]))
        return Verdict(answer == problem.data.answer, answer or None)


def canonical(text: str) -> str:
    """The text stripped, and if it is a decimal number its shortest form: without a plus sign, leading zeros,
    and zeros that end its fraction. Works on characters, so a number of any length is compared exactly."""
    text = text.strip()
    sign, digits = (text[0], text[1:]) if text[:1] in ("+", "-") else ("", text)
    whole, _, fraction = digits.partition(".")
    if not (whole + fraction).isdecimal() or not text.isascii():
        return text
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    number = f"{whole}.{fraction}" if fraction else whole
    return f"-{number}" if sign == "-" and number != "0" else number


def _tokens(text: str) -> list[int]:
    return [TOKEN[character] for character in text]


@lru_cache(maxsize=8)
def _order(seed: int, split: Split, count: int) -> tuple[int, ...]:
    return tuple(random.Random(f"{seed}/{split}").sample(range(count), count))


def _read(path: Path) -> Iterator[Entry]:
    """The entries of a file that has at least one; a prompt (but for white space) stands there once."""
    try:
        lines = read_text(path).split("\n")
    except (OSError, ValueError) as error:
        raise ValueError(f"task.path: {path} cannot be read as UTF-8 text: {error}") from error
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = _entry(f"{path}:{number}", line)
        first = seen.setdefault(entry.key, number)
        if first != number:
            raise ValueError(f"{path}:{number}: prompt: is the same as on line {first}; leave one of them out")
        yield entry
    if not seen:
        raise ValueError(f'task.path: {path} has no problems; a line reads {{"prompt": …, "answer": …}}')


def _entry(place: str, line: str) -> Entry:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{place}: is not a JSON object with prompt and answer")
    if unknown := sorted(set(row) - set(FIELDS)):
        raise ValueError(f"{place}: {unknown[0]}: is not a field of a problem; known: {', '.join(FIELDS)}")
    prompt, answer = _text(place, "prompt", row.get("prompt")), _text(place, "answer", row.get("answer"))
    solution = None if row.get("solution") is None else _text(place, "solution", row["solution"])
    difficulty = row.get("difficulty", 1)
    if type(difficulty) is not int or difficulty < 1:
        raise ValueError(f"{place}: difficulty: {difficulty!r} must be a positive integer")
    key = " ".join(prompt.split())
    split = row.get("split", split_of(key))
    if split not in ("train", "eval"):
        raise ValueError(f"{place}: split: {split!r} must be train or eval")
    return Entry(prompt, canonical(answer), solution, difficulty, split, key)


def _text(place: str, field: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{place}: {field}: {value!r} must be a text that is not empty")
    for character in value.strip():
        if character not in TOKEN:
            raise ValueError(
                f"{place}: {field}: {character!r} has no token; texts are printable ASCII and line feeds"
            )
    return value.strip()
