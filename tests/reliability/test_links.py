"""A run may be spread over disks by symbolic links; what a link leads to is read and added to, never removed."""

import shutil
from pathlib import Path

import pytest

from scaling import config as configs
from scaling.records import Run
from tests.reliability.tiny_runs import SETTINGS, here, record


@pytest.fixture
def moment(undisturbed, tmp_path) -> Run:
    """A run that was killed half-way."""
    moments = undisturbed.moments
    return Run(shutil.copytree(moments[len(moments) // 2], tmp_path / "run"))


def move(entry: Path, disk: Path) -> None:
    """Another place for a file or folder, and a link where it was."""
    disk.mkdir(exist_ok=True)
    shutil.move(entry, disk / entry.name)
    entry.symlink_to(disk / entry.name)


def comes_to_the_same_end(run: Run, undisturbed) -> None:
    for verb in ("run", "evaluate", "check"):
        code, _, err = here(verb, run.path)
        assert code == 0, (verb, err)
    assert record(run) == record(undisturbed.run)


@pytest.mark.slow
def test_checkpoints_and_evaluations_may_be_on_another_disk(undisturbed, moment, tmp_path):
    for folder in (moment.checkpoints, moment.evals):
        move(folder, tmp_path / "disk")
    comes_to_the_same_end(moment, undisturbed)
    assert moment.checkpoints.is_symlink() and moment.evals.is_symlink()


@pytest.mark.slow
def test_so_may_single_files_and_checkpoints(undisturbed, moment, tmp_path):
    name, disk = moment.manifest_names()[-1], tmp_path / "disk"
    for entry in (moment.config_file, moment.train_file, moment.status_file, moment.checkpoints / name):
        move(entry, disk)
    kept = {file: file.read_bytes() for file in (disk / name).rglob("*") if file.is_file()}
    (moment.checkpoints / "00009999").symlink_to(disk / name)
    comes_to_the_same_end(moment, undisturbed)
    assert {file: file.read_bytes() for file in (disk / name).rglob("*") if file.is_file()} == kept
    assert (disk / moment.train_file.name).read_bytes()


@pytest.mark.parametrize("folder", ["checkpoints", "evals"])
@pytest.mark.parametrize("verb", ["run", "evaluate", "check"])
def test_a_link_to_a_disk_that_is_not_there_is_one_line(tmp_path, folder, verb):
    config = configs.load("tiny", SETTINGS)
    run = Run.create(tmp_path / "run", configs.dump(config), configs.config_hash(config), {"command": "scaling"})
    (run.path / folder).rmdir()
    (run.path / folder).symlink_to(tmp_path / "disk")
    code, _, err = here(verb, run.path)
    assert (code, err) == (2, f"{run.path / folder}: a link to {tmp_path / 'disk'}, where no directory is\n")
    assert not (tmp_path / "disk").exists() and not run.status_file.exists()


def test_a_directory_that_cannot_be_one_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for place in ("file", "circle", "file/below"):
        code, _, err = here("run", tmp_path / place)
        assert code == 2 and err.startswith(f"{tmp_path / place}: cannot be a directory ("), err
