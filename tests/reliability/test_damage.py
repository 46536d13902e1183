"""Damage to any file of a run is noticed and named in a line, mended where it can be, and kept to be looked at."""

import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis import load
from scaling.check import check
from scaling.checkpoints import restore
from scaling.config import load as load_config
from scaling.experiment import prepare
from scaling.learner import abstract_state
from scaling.records import Run
from tests.reliability.tiny_runs import ALL, SEED, SETTINGS, here, record, sample

pytestmark = pytest.mark.slow  # a whole run, and what goes on from it

GRID = 4, (0, 4)
BITS = 32
"""Flipped in turn, of each file of a checkpoint, in the whole bench; one in the sample."""


@pytest.fixture
def run(undisturbed, tmp_path) -> Run:
    return Run(shutil.copytree(undisturbed.run.path, tmp_path / "run"))


@pytest.fixture(scope="module")
def abstract():
    return abstract_state(prepare(load_config("tiny", SETTINGS)))


def remove(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b"")


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(bit: int) -> Callable[[Path], None]:
    """One bit, wherever the number falls in the file."""

    def flipped(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[bit // 8 % len(data)] ^= 1 << bit % 8
        file.write_bytes(data)

    return flipped


def damages() -> list[Callable[[Path], None]]:
    moments = random.Random(SEED)
    return [remove, empty, truncate, *(flip(moments.randrange(10**6)) for _ in range(BITS if ALL else 1))]


def test_every_damage_to_every_file_of_a_checkpoint_is_noticed_or_harmless(run, abstract, tmp_path):
    """Harmless: all leaves are restored with the hash that they were saved with. Else the checkpoint is named by
    `scaling check`, set aside when it is used, and the one before it is used."""
    *_, before, newest = run.manifest_names()
    folder = run.checkpoints / newest
    files = [run.manifest_file(newest), *(file for file in sorted(folder.rglob("*")) if file.is_file())]
    tried = noticed = 0
    for file in files:
        for damage in damages():
            place = Run(shutil.copytree(run.path, tmp_path / f"{tried}"))
            tried += 1
            target = place.path / file.relative_to(run.path)
            if not target.stat().st_size:
                continue
            damage(target)
            gone = newest not in place.manifest_names()
            (code, out, _), said = here("check", place.path), []
            restored = restore(place, abstract, warn=said.append)
            assert restored is not None, target
            if restored[1]["name"] == newest:
                assert not said, target
            else:
                noticed += 1
                assert restored[1]["name"] == before, target
                assert gone or (
                    len(said) == 1 and "\n" not in said[0] and f"checkpoint {newest} is damaged" in said[0]
                ), (target, said)
                assert code == 1 and any(newest in line for line in out.splitlines()), target
            shutil.rmtree(place.path)
    print(f"\n{tried} damages to {len(files)} files: {noticed} noticed, the others harmless")
    assert noticed >= len(files)


@pytest.mark.parametrize("which", [-1, 0], ids=["newest", "oldest"])
@pytest.mark.parametrize("what", ["data", "manifest"])
def test_a_run_with_a_damaged_checkpoint_goes_on(undisturbed, run, which, what):
    name = run.manifest_names()[which]
    data = max((run.checkpoints / name).rglob("*"), key=lambda file: file.stat().st_size * file.is_file())
    flip(10**5 + 3)(run.manifest_file(name) if what == "manifest" else data)
    if what == "data" and which == 0:
        run.evaluation_file(name).unlink()  # else nobody would read it again
    code, _, err = here("run", run.path)
    assert code == 0 and f"checkpoint {name} is damaged" in err
    expected = record(undisturbed.run)
    if which == 0:  # what nothing brings back is one point of the curve
        expected["checkpoints"] = [m for m in expected["checkpoints"] if m["name"] != name]
        if what == "data":
            del expected["evaluations"][name]
    assert record(run) == expected
    found = check(run.path, *GRID)
    assert f"{run.checkpoints / 'damaged'}: holds 1 damaged checkpoint" in found
    assert here("run", run.path)[0] == 0, "and again"


def spoil(file: Path, number: int, line: bytes) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    lines[number] = line
    file.write_bytes(b"".join(lines))


def evaluated(run: Run) -> Path:
    return run.evaluation_file(run.evaluation_names()[1])


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def repeat(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines, *lines]))


RECORDS = {
    "evaluation torn": (lambda run: tear(evaluated(run)), "last line is torn", ""),
    "evaluation garbage": (
        lambda run: spoil(evaluated(run), 2, b"\xff\x00{\n"),
        "line 3: not JSON",
        "line 3: not",
    ),
    "evaluation removed": (lambda run: evaluated(run).unlink(), "no such file, and the run is done", ""),
    "train torn": (lambda run: tear(run.train_file), "last line is torn", ""),
    "train garbage": (
        lambda run: spoil(run.train_file, 2, b"\xff\x00{\n"),
        "line 3: not JSON",
        "line 3: not JSON",
    ),
    "train removed": (lambda run: run.train_file.unlink(), "ends at step 0", ""),
    "environment removed": (lambda run: run.environment_file.unlink(), "environment.json: no such file", ""),
    "environment garbage": (lambda run: empty(run.environment_file), "environment.json: not JSON", ""),
    "status removed": (lambda run: run.status_file.unlink(), "status.json: no such file", ""),
    "status garbage": (lambda run: empty(run.status_file), "status.json: not JSON", ""),
    "evaluation repeated": (lambda run: repeat(evaluated(run)), "repeats the key", ""),
    "train repeated": (lambda run: repeat(run.train_file), "repeats the key", ""),
}
LOST = {"train garbage": 1, "train removed": None, "train torn": 1}
"""Training rows that stay lost: history, whose sums the checkpoints have. None: all of them."""


@pytest.mark.parametrize("name", sample(list(RECORDS), 6))
def test_a_run_with_damaged_records_names_them_mends_them_and_comes_to_the_same_end(undisturbed, run, name):
    damage, finding, line = RECORDS[name]
    damage(run)
    found = check(run.path, *GRID)
    assert any(finding in text for text in found), found
    code, _, err = here("run", run.path)
    assert code == 0 and line in err and "Traceback" not in err
    expected, got = record(undisturbed.run), record(run)
    if name in LOST:
        lost = LOST[name] or len(expected["train"])
        assert len(got["train"]) == len(expected["train"]) - lost
        assert all(row in expected["train"] for row in got["train"])
        expected["train"] = got["train"]
    if "repeated" in name:  # a repeated key is the same fact, and stays
        assert run.train_rows() == undisturbed.run.train_rows() or "evaluation" in name
    else:
        assert got == expected
    if line:
        assert any("damaged: holds 1 damaged" in text for text in check(run.path, *GRID))


def test_a_config_that_is_lost_is_not_replaced_by_another(run):
    text = run.config_file.read_bytes()
    run.config_file.unlink()
    code, _, err = here("run", run.path, "seed=7")
    assert code == 2 and "config.yaml: missing, and the checkpoints are of another config" in err
    assert not run.config_file.exists()
    assert here("run", run.path)[0] == 0, "the run's own config may be given again"
    assert run.config_file.read_bytes() == text


def test_analysis_says_what_it_leaves_out_and_goes_on(run, caplog):
    first, second, third, *_ = run.evaluation_names()
    whole = load.outcomes(run.path)
    spoil(run.evaluation_file(first), 1, b"garbage\n")
    flip(10**5)(run.manifest_file(second))
    tear(run.evaluation_file(third))
    with caplog.at_level(logging.WARNING):
        rest = load.outcomes(run.path)
        load.evaluation_seconds(run.path)
        spoil(run.train_file, 1, b"garbage\n")
        assert len(load.last_ledgers(run.path)) == 1
    left = sorted(set(whole["checkpoint"]) - set(rest["checkpoint"]))
    assert left == [first, second, third]
    for part in (f"{first}.jsonl, line 2: not JSON", f"{second}.json: ", f"{third} (7 of 8 cells)", "train.jsonl"):
        assert sum(part in message for message in caplog.messages) == 1, (part, caplog.messages)
