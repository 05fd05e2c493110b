"""Apply the notification rules of the buckets named: `python -m shared.provision BUCKET...`; say what changed."""

import asyncio
import sys

from shared.errors import PenstockError
from shared.outages import retry_outages
from shared.provision.buckets import ensure_rules
from shared.settings import Settings

if __name__ == "__main__":
    try:
        changes = asyncio.run(retry_outages(lambda: ensure_rules(Settings(), sys.argv[1:])))
    except PenstockError as error:
        sys.exit(str(error))
    sys.stdout.writelines(f"{change}\n" for change in changes)
