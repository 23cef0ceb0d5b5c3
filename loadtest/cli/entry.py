"""Where `gptoss-loadtest` begins: it says what is missing before anything asks for it."""

import sys
from importlib.util import find_spec

_EXTRA = ("numpy", "plotly")


def main() -> None:
    """Run the command, if its extra is installed. Ctrl-C ends it in order from the first moment: to
    read all of it takes a second."""
    try:
        _main()
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)


def _main() -> None:
    if missing := [name for name in _EXTRA if find_spec(name) is None]:
        lacks = " and ".join(missing)
        sys.exit(f"gptoss-loadtest lacks {lacks}: pip install 'gptoss-serving[loadtest]'")
    from loadtest.cli import main as command

    command.main()
