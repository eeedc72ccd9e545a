"""The command line: one module a command, thin. Parse, call, print."""

import sys


def entry() -> None:
    """Run ``leafkit``; Ctrl-C while modules still load is no traceback either."""
    try:
        from leafkit.cli.main import main  # 0.3 s
    except KeyboardInterrupt:
        sys.exit(130)
    main()
