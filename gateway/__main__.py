"""The program ``budget-gateway``."""

import sys

from gateway.cli.dispatch import run


def main() -> None:
    """Run the command named on the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
