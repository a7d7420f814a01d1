"""The program ``budget-gateway``."""

import importlib
import sys

# The shell's word for a program that was ended by Ctrl-C.
_INTERRUPTED = 130


def main() -> None:
    """Run the command named on the command line and exit with its code."""
    try:
        # Not above: loading takes a while, and Ctrl-C meanwhile is no fault that needs a trace.
        code = importlib.import_module("gateway.cli.dispatch").run(sys.argv[1:])
    except KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
