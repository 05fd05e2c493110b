"""Run ingest: `python -m services.ingest`."""

import sys

from services.ingest.app import build_app
from services.ingest.settings import IngestSettings
from shared.service import run

if __name__ == "__main__":
    sys.exit(run(build_app(IngestSettings())))
