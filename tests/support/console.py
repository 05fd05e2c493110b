"""The console as an operator starts it: a process, its output, its exit code."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

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

    def faults(self):
        """Return what `penstock doctor` finds wrong with the servers of a stack that no supervisor watches."""
        found, _ = self.start("doctor", "--json", "--no-probe").communicate(timeout=120)
        return [one for one in json.loads(found)["findings"] if not one["ok"] and one["name"] != "processes"]
