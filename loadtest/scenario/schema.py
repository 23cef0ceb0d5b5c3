"""The JSON schema of scenarios, for editors: `# yaml-language-server: $schema=...`."""

from pathlib import Path
from typing import Any, Final

from loadtest.scenario.document import Scenario

PATH: Final = Path(__file__).with_name("schema.json")


def schema() -> dict[str, Any]:
    """Made from the models."""
    made = Scenario.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}
