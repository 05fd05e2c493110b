"""The stack without Docker: `python -m deploy.native up|down|status|logs|run|install|clean`."""

import sys

from deploy.native import signals

if __name__ == "__main__":
    with signals.held():  # a Ctrl-C inside an import may be swallowed there; `main` listens
        from deploy.native.console import main

        sys.exit(main())
