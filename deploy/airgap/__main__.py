"""`python3 -m deploy.airgap COMMAND`."""

import argparse
import dataclasses
import errno
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.airgap import check, gather, push, rendered, source, unpack
from deploy.airgap.console import note, say
from deploy.airgap.fault import Fault
from deploy.airgap.rendered import Needs
from deploy.airgap.source import Finder
from deploy.airgap.weights import Shelf

_INTERRUPTED = 130
_RENDERED = "what `helm template` printed, or - for standard input"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a fault is one line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except Fault as error:
        note(f"airgap: {error}")
    except ModuleNotFoundError as error:
        note(f"airgap: {error.name} is missing: install PyYAML, or use the repository's .venv")
    except OSError as error:
        note(f"airgap: {_told(error)}")
    except KeyboardInterrupt:
        note("airgap: interrupted: run again, it continues where it was")
        return _INTERRUPTED
    return 1


def _told(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}no room is left: make room, then run again, it continues where it was"
    if error.errno == errno.EFBIG:
        return f"{where}this disk cannot hold a file so large: format it as ext4, XFS or exFAT"
    return f"{where}{error.strerror or error}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="airgap", description="See README.md beside this tool.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("list", help="what an installation needs")
    one.add_argument("rendered", help=_RENDERED)
    one.add_argument("--json", action="store_true")
    one.set_defaults(run=_list)
    _add_bundle(commands.add_parser("bundle", help="gather all of it in a folder"))
    one = commands.add_parser("check", help="whether a bundle is whole")
    one.add_argument("out", type=Path)
    one.set_defaults(run=lambda chosen: 0 if check.check(chosen.out) else 1)
    one = commands.add_parser("push", help="the images into a registry")
    one.add_argument("out", type=Path)
    one.add_argument(
        "registry", help="the chart's images.registry, as in registry.internal/serving"
    )
    one.add_argument("--insecure", action="store_true", help="it has no certificate that is known")
    one.set_defaults(run=_push)
    one = commands.add_parser("unpack", help="the weights to where the claim is mounted")
    one.add_argument("out", help="the bundle, or - for one model's tar from standard input")
    one.add_argument("folder", type=Path)
    one.add_argument("--owner", type=int, default=unpack.OWNER, help="run by root: whose files")
    one.set_defaults(run=_unpack)
    return parser


def _add_bundle(one: argparse.ArgumentParser) -> None:
    one.add_argument("out", type=Path)
    one.add_argument("rendered", help=_RENDERED)
    one.add_argument("--registry", help="the render's images.registry, which names lose")
    one.add_argument("--weights", type=Path, help="folder with hub/ and gptoss/weights/")
    one.add_argument("--from", dest="origin", default="", help="registry to pull from")
    one.add_argument("--arch", default=source.architecture(), help="of the cluster's nodes")
    one.add_argument(
        "--insecure", action="store_true", help="the registry has no known certificate"
    )
    one.set_defaults(run=_bundle)


def _needs(name: str) -> Needs:
    read = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    return rendered.read(read.decode(errors="replace"))


def _list(chosen: argparse.Namespace) -> int:
    needs = _needs(chosen.rendered)
    if chosen.json:
        say(json.dumps(dataclasses.asdict(needs), indent=2))
        return 0
    for image in needs.images:
        say(f"image  {image}")
    for model in needs.models:
        revision = f" at {model.revision}" if model.revision else ""
        say(f"model  {model.name}{revision}, {model.gigabytes} GB, from {model.origin}")
    return 0


def _bundle(chosen: argparse.Namespace) -> int:
    shelf = Shelf.of_claim(chosen.weights.absolute()) if chosen.weights else Shelf.standard()

    def finder() -> Finder:
        return Finder(chosen.arch, chosen.origin, insecure=chosen.insecure)

    order = gather.Order(_needs(chosen.rendered), chosen.registry, shelf, finder)
    gather.gather(chosen.out, order)
    return 0


def _push(chosen: argparse.Namespace) -> int:
    push.push(chosen.out, chosen.registry, insecure=chosen.insecure)
    return 0


def _unpack(chosen: argparse.Namespace) -> int:
    if chosen.out == "-":
        unpack.unpack_stream(sys.stdin.buffer, chosen.folder, chosen.owner)
    else:
        unpack.unpack(Path(chosen.out), chosen.folder, chosen.owner)
    return 0


if __name__ == "__main__":
    sys.exit(main())
