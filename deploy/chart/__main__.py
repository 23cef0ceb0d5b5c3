"""Make the chart's schema, README and data anew (`make helm`); `--check` says what is old."""

import argparse
import json
import sys
from pathlib import Path

import yaml

from deploy.chart import facts
from deploy.chart.readme import readme
from deploy.chart.schema import schema
from deploy.chart.values import parse

CHART = Path("helm/gptoss")


def made(chart: Path = CHART) -> dict[Path, str]:
    """Every file that is made, with what it should hold."""
    values = parse((chart / "values.yaml").read_text())
    heading = "# Made by `make helm` from service/profiles and service/grace.py: leave as it is.\n"
    return {
        chart / "values.schema.json": json.dumps(schema(values), indent=2) + "\n",
        chart / "README.md": readme((chart / "README.md.in").read_text(), values),
        chart / "files" / "facts.yaml": heading
        + yaml.safe_dump(facts.data(), sort_keys=False, width=100),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.chart", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file is old")
    check = parser.parse_args().check
    old = [path for path, text in made().items() if not path.exists() or path.read_text() != text]
    for path in old:
        if check:
            print(f"{path} is not what `make helm` makes")
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(made()[path])
            print(f"made {path}")
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main())
