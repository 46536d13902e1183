"""Run by test_hosts.py: the command line, with rewards that differ from the first step on and an empty report."""

import sys
from unittest import mock

from small_runs import first_tokens

from scaling import cli, rl, stages

if __name__ == "__main__":
    facts = {"verdict": "none", "files": ()}
    with mock.patch.object(rl, "rewards", first_tokens), mock.patch.object(stages, "report", lambda path: facts):
        sys.exit(cli.main())
