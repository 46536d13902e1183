"""A command for tests of launchers: works for some seconds, saves when told to stop, and goes on from there.

stoppable.py FOLDER SECONDS    exits with 0 when done, with 75 when told to stop; FOLDER/said has what happened
"""

import os
import signal
import sys
import time
from pathlib import Path

STEP = 0.05
"""Seconds."""


def main(folder: Path, seconds: float) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    saved, told = folder / "saved", []

    def say(what: str) -> None:
        with (folder / "said").open("a") as file:
            file.write(f"{what}\n")

    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, _: told.append(signal.Signals(number).name))
    spent = float(saved.read_text()) if saved.exists() else 0.0
    print(f"from {spent:.2f} s", flush=True)
    say(f"started {os.getpid()}")
    while spent < seconds:
        time.sleep(STEP)
        spent += STEP
        if told:
            saved.write_text(str(spent))
            say(f"saved {told[0]}")
            return 75
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
