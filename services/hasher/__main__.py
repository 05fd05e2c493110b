"""Run the hasher: `python -m services.hasher`."""

import sys

from services.hasher.app import build_app
from services.hasher.settings import HasherSettings
from shared.service import run

if __name__ == "__main__":
    sys.exit(run(build_app(HasherSettings())))
