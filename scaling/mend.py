"""Records that are damaged: the file is kept as it is in a folder beside, and its sound rows go on in its place.

What an evaluation loses is evaluated again. What train.jsonl loses is history: the ledger is in the checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scaling.files import RecordError, keep_aside, parse, replace, row_key
from scaling.records import EVAL_KEY, TRAIN_KEY, Run


def mend(run: Run) -> list[str]:
    """Mend the records of a run; a line for each file that was damaged. Checkpoints: `checkpoints.restore`."""
    said = [_mend_lines(run.train_file, TRAIN_KEY)]
    said += [_mend_lines(run.evaluation_file(name), EVAL_KEY) for name in run.evaluation_names()]
    return [line for line in said if line]


def _mend_lines(path: Path, key: Sequence[str]) -> str:
    """Set a file of JSON lines aside and replace it by its sound lines; "" where all that end are sound."""
    if not path.exists():
        return ""
    kept, wrong = [], []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            place = f"{path}, line {number}"
            try:
                row_key(place, parse(place, line), key)
                kept.append(line)
            except RecordError as error:
                wrong.append(str(error))
    if not wrong:
        return ""
    aside = keep_aside(path)
    replace(path, b"".join(kept))
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{wrong[0]}{more}; {len(kept)} sound rows kept, the damaged file is {aside}"
