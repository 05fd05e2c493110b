"""The console as an operator starts it: a process, its output, its exit code."""

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
    """What every command begins with."""

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
    """Return what `penstock doctor` finds wrong with the servers of a stack that no supervisor watches.

    One check after the other, and again when it fails: a busy machine does not answer all at once in their time.
    """
    settings = load(stack.env, stack.state_dir)
    named = [(name, check) for name, check in CHECKS.items() if name not in {"processes", "disk"}]
    return [one for name, check in named for one in await _faults_of(name, check, settings)]


async def _faults_of(name, check, settings, attempts=5):
    for _ in range(attempts):
        if not (wrong := [one for one in await checks.run(name, check, settings) if not one.ok]):
            break
    return wrong
