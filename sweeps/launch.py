"""The loop that starts what is missing and sees it through, on whatever engine."""

from __future__ import annotations

import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Literal

from scaling.quantities import how_many
from scaling.resolve import config_and_directory
from sweeps.directory import Attempt, Directory, Ended
from sweeps.expand import Planned
from sweeps.launchers import Hint, Launcher
from sweeps.state import REFUSED, Standing, hints, standing

PAUSE_SECONDS = 1.0
Move = Literal["settled", "active", "start"]


class Wish:
    """What a person wants of a launch: 0 go on; 1 start no more; 2 stop the running ones too.

    Ctrl-C on a terminal asks whether it is 2: another Ctrl-C, or y, says so. Elsewhere, and for SIGTERM, it is 2.
    Once it is 2, a further Ctrl-C leaves the jobs to stop by themselves. To be entered in the main thread.
    """

    def __init__(self) -> None:
        self.level = 0
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Wish:
        self._before = {n: signal.signal(n, self._signalled) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if self.level == 2 and number == signal.SIGINT:
            raise KeyboardInterrupt
        gently = number == signal.SIGINT and self.level == 0 and sys.stdin.isatty()
        self.level = 1 if gently else 2

    def ask(self, running: int) -> None:
        """Asks once, and hears the answer when there is one."""
        if self.level != 1:
            return
        if not self._asked:
            self._asked = True
            print(
                f"\nno more runs are started; {running} go on. Stop them too? y, or Ctrl-C again", file=sys.stderr
            )
        if select.select([sys.stdin], [], [], 0)[0] and sys.stdin.readline().strip().lower() in ("y", "yes"):
            self.level = 2


@dataclass
class Launch:
    """One launch of a sweep. `slots`: how many runs may be in the engine's hands at once."""

    directory: Directory
    engine: str
    launchers: Callable[[str], Launcher]
    slots: int
    retries: int
    say: Callable[[str], None]
    judge: Callable[[], Sequence[Ended]] = tuple
    """Runs that the stopping rule ends now."""
    pause: float = PAUSE_SECONDS
    attempts: dict[str, Attempt] = field(default_factory=dict)
    ours: set[str] = field(default_factory=set)
    """Runs whose last attempt this launch made."""
    given_up: dict[str, Standing] = field(default_factory=dict)

    def go(self, runs: Sequence[Planned], wish: Wish, *, forgive: bool = False) -> dict[str, Standing]:
        """Start what is missing until all is done or given up, or until it is wished to stop; how all stand then.

        Done runs stay; dead and preempted ones go on; failed ones, and those that die under this launch, are
        started again up to `retries` times, earlier launches counted unless `forgive`; refused configs are not.
        """
        self.attempts = self.directory.attempts()
        if forgive:
            self.attempts = {name: _forgiven(attempt) for name, attempt in self.attempts.items()}
            self.directory.end(replace(e, time=time.time(), reason="") for e in self.directory.ended().values())
        by_name = {planned.name: planned for planned in runs}
        self.given_up = {e.run: ended_by_rule(e) for e in self.directory.ended().values() if e.run in by_name}
        waiting, stands = list(by_name), self._look(by_name)
        stopping = False
        while True:
            moves = {name: self._move(name, *stands[name]) for name in waiting}
            waiting = [name for name in waiting if moves[name] != "settled"]
            active = [name for name in waiting if moves[name] == "active"]
            if self.directory.stop_file.exists():
                wish.level = 2
            wish.ask(len(active))
            if wish.level == 2 and not stopping:
                stopping = True
                self._stop(active)
            self._judged(waiting, active)
            ready = [name for name in waiting if moves[name] == "start" and name not in self.given_up]
            starting = [] if wish.level else ready[: max(self.slots - len(active), 0)]
            if starting:
                self._start([by_name[name] for name in starting], stands)
            if not active and not starting:
                break
            time.sleep(self.pause)
            stands |= self._look([*active, *starting])
        over = {name: stand for name, stand in self.given_up.items() if stands[name][0].state != "done"}
        return {name: over.get(name, stand) for name, (stand, _) in stands.items()}

    def _look(self, names: Sequence[str] | Mapping[str, Any]) -> dict[str, tuple[Standing, Hint]]:
        """How each run stands, and what its engine says."""
        said = hints([self.attempts[name] for name in names if name in self.attempts], self.launchers)
        now, found = time.time(), {}
        for name in names:
            hint = said.get(name, "unknown")
            found[name] = standing(self.directory.run(name), now, self.attempts.get(name), hint), hint
        return found

    def _move(self, name: str, stand: Standing, hint: Hint) -> Move:
        if stand.state == "done":
            if name in self.ours:
                self.say(f"done       {name}")
            return "settled"
        if stand.state == "running" or (name in self.attempts and hint in ("queued", "running")):
            return "active"
        if name in self.given_up:
            return "settled"
        if stand.state == "waiting" and name in self.attempts:
            return "active"
        if stand.state == "waiting" or self._may_go_on(name, stand):
            return "start"
        return "settled"

    def _judged(self, waiting: Sequence[str], active: Sequence[str]) -> None:
        """End what the stopping rule ends of what is not yet done."""
        ended = [e for e in self.judge() if e.run in waiting and e.run not in self.given_up]
        if not ended:
            return
        self.directory.end(ended)
        self.given_up |= {e.run: ended_by_rule(e) for e in ended}
        for e in ended:
            self.say(f"ended      {e.run}: {e.arm}: {e.reason}")
        names = {e.run for e in ended}
        cancel([self.attempts[name] for name in active if name in names and name in self.attempts], self.launchers)

    def _may_go_on(self, name: str, stand: Standing) -> bool:
        """Whether a run that ended undone is started again; if not, it is given up, with a line that says why."""
        reason = stand.reason
        refused = reason.startswith(REFUSED)
        if stand.state == "dead" and not stand.stage:
            refused, reason = self._why_lost(name)
        failures = self._failures(name, stand)
        if not refused and failures <= self.retries:
            return True
        why = "refused" if refused else f"failed {failures} times"
        self.say(f"given up   {name}: {why}: {reason}")
        self.given_up[name] = Standing("failed", stand.stage, reason, stand.heartbeat)
        return False

    def _failures(self, name: str, stand: Standing) -> int:
        """Failures so far, this ending included; one that died before this launch may have with its machine."""
        before = self.attempts[name].failures if name in self.attempts else 0
        counts = stand.state == "failed" or (stand.state == "dead" and name in self.ours)
        return max(before + counts, 0)

    def _why_lost(self, name: str) -> tuple[bool, str]:
        """Whether a run that ended before it wrote its state was refused, and why it ended."""
        try:
            config_and_directory(str(self.directory.config_file(name)), self.directory.run(name), ())
        except ValueError as error:
            return True, str(error).replace("\n", "; ")
        return False, self.directory.last_line(name) or "ended before it began, and printed nothing"

    def _start(self, runs: Sequence[Planned], stands: Mapping[str, tuple[Standing, Hint]]) -> None:
        now = time.time()
        handles = self.launchers(self.engine).submit([self.directory.job(planned) for planned in runs])
        made = []
        for planned, handle in zip(runs, handles, strict=True):
            stand, _ = stands[planned.name]
            after = "" if stand.state == "waiting" else ": ".join(filter(None, (stand.state, stand.reason)))
            failures = self._failures(planned.name, stand)
            made.append(Attempt(planned.name, self.engine, handle, now, failures, after))
            self.say(f"started    {planned.name}" + (f" (after: {after})" if after else ""))
        self.directory.add(made)
        self.attempts |= {attempt.run: attempt for attempt in made}
        self.ours |= {attempt.run for attempt in made}

    def _stop(self, active: Sequence[str]) -> None:
        many = how_many(len(active), "run")
        self.say(f"stopping   {many}; what is done is saved first, and the same command goes on")
        cancel([self.attempts[name] for name in active if name in self.attempts], self.launchers)


def cancel(attempts: Sequence[Attempt], launchers: Callable[[str], Launcher]) -> None:
    """Ask the jobs of these attempts to save and stop."""
    for engine in {attempt.engine for attempt in attempts}:
        launchers(engine).cancel([attempt.handle for attempt in attempts if attempt.engine == engine])


def _forgiven(attempt: Attempt) -> Attempt:
    return replace(attempt, failures=-1)


def ended_by_rule(ended: Ended) -> Standing:
    """Where a run stands that the stopping rule ended."""
    return Standing("ended", "", f"{ended.arm}: {ended.reason}")


def tally(stands: Mapping[str, Standing]) -> dict[str, int]:
    """How many runs are in each state, those without any left out."""
    return dict(Counter(stand.state for stand in stands.values()))
