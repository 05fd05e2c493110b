"""The console as a subprocess: its output and its exit code."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from services.cli.adapters import checks
from services.cli.commands.doctor import CHECKS
from services.cli.settings import load

PENSTOCK = Path(sys.executable).with_name("penstock")


@dataclass
class Console:
    env: dict[str, str]
    folder: Path
    begin: tuple[str, ...] = ()
    """The first words of every command."""

    def start(self, *words, **env):
        return subprocess.Popen(
            [PENSTOCK, *self.begin, *words],
            env={**os.environ, **self.env, **env},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words, code=0, **env):
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, (words, process.returncode, out, err)
        assert "Traceback" not in err
        return out, err

    def json(self, *words, code=0, **env):
        return json.loads(self.run(*words, "--json", code=code, **env)[0])


async def faults(stack):
    """Return the failed checks of `penstock doctor` for the servers of a stack without a supervisor.

    Checks run one after the other and are repeated after a failure, because a busy machine is slow.
    """
    settings = load(stack.env, stack.state_dir)
    named = [(name, check) for name, check in CHECKS.items() if name not in {"processes", "disk"}]
    return [one for name, check in named for one in await _faults_of(name, check, settings)]


async def _faults_of(name, check, settings, attempts=5):
    for _ in range(attempts):
        if not (failed := [one for one in await checks.run(name, check, settings) if not one.ok]):
            break
    return failed
