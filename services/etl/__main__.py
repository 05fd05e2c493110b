"""Run etl: `python -m services.etl`."""

import sys

from services.etl.app import build_app
from services.etl.settings import EtlSettings
from shared.service import run

if __name__ == "__main__":
    sys.exit(run(build_app(EtlSettings())))
