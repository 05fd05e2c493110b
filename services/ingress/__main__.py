"""Run the ingress: `python -m services.ingress`."""

import sys

from services.ingress.app import build_app
from services.ingress.settings import IngressSettings
from shared.service import run

if __name__ == "__main__":
    sys.exit(run(build_app(IngressSettings())))
