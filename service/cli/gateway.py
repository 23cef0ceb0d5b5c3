"""`gptoss gateway`: the OpenAI-compatible endpoint in front of the engines."""

from service import settings
from service.telemetry import logs


def gateway() -> None:
    """Serve the OpenAI-compatible endpoint until SIGTERM or Ctrl-C.

    Everything it needs comes from the settings: see `gptoss settings`.
    """
    from service.gateway import server  # the server's imports are of no use to other commands

    logs.configure()
    server.run(settings.load())
