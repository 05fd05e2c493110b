"""Run any services in one process: `python -m services [ingest hasher ...]`; without names, all of them.

Each answers probes on its own port. With PENSTOCK_HEALTH_PORT set, the first takes that port and the others
the next ones.
"""

import os
import sys
from collections.abc import Sequence

from services import catalogue
from shared.service import run


def main(requested: Sequence[str]) -> int:
    """Run the requested services (none: all) until a signal stops them; return the exit code, 2 for an unknown name."""
    known = catalogue.names()
    if strange := [name for name in requested if name not in known]:
        print(f"no service {', '.join(strange)}: there are {', '.join(known)}", file=sys.stderr)  # noqa: T201
        return 2
    first_port = int(os.environ.get("PENSTOCK_HEALTH_PORT") or 0)
    return run(
        *(
            catalogue.build(name, **({"health_port": first_port + nth} if first_port else {}))
            for nth, name in enumerate(dict.fromkeys(requested or known))
        )
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
