"""What a node lacks for an engine: looked for on the node itself, before anything is started."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from service.engine import hardware, launcher
from service.errors import UserError
from service.fleet.order import Order
from service.fleet.replica import Ports
from service.models import find as find_model
from service.profiles import Vendor, choose, plan
from service.profiles import find as find_profile

DISTRIBUTION = "gptoss-serving"


def complaint(order: Order, address: str, wanted: str, replaces: bool = False) -> str:
    """Why an engine would not start here, in one line; empty: nothing is known.

    `wanted` is the version of the service that the keeper runs. One that `replaces` another here
    gets its port.
    """
    try:
        if (found := _installed()) != wanted:
            raise UserError(
                f"has {DISTRIBUTION} {found}, and the fleet is of {wanted}: install that"
            )
        _check(order, address, replaces)
    except UserError as error:
        return str(error)
    return ""


def _installed() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        raise UserError(f"{DISTRIBUTION} is not installed: pip install it there") from None


def _check(order: Order, address: str, replaces: bool) -> None:
    profile, model = find_profile(order.profile), find_model(order.model)
    port = 0  # any
    if not replaces:
        ports = Ports(order.first_port, order.last_port)
        port = ports.take(address)
        ports.release()
    launcher.preflight(plan(model, profile), address, port, os.environ)
    if order.weights and not (Path(order.weights) / "config.json").is_file():
        raise UserError(f"there is no model in {order.weights}: mount it there, or mend `weights`")
    if profile.vendor is not Vendor.CPU:
        # Ray hides the cards from what has asked for none.
        if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
            del os.environ["CUDA_VISIBLE_DEVICES"]
        choose(hardware.detect(), order.model, order.profile)
