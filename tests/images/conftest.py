"""The images, built once a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import archive, build, buildah, container
from tests.images.container import Container


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the archives."""
    if reason := buildah.missing():
        pytest.skip(reason)
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="session")
def gateway(folder: Path) -> Iterator[Container]:
    """The gateway's image."""
    with container.opened(archive.read(build.gateway(folder))) as opened:
        yield opened


@pytest.fixture(scope="session")
def engine(folder: Path) -> Iterator[Container]:
    """The engine's image."""
    with container.opened(archive.read(build.engine(folder))) as opened:
        yield opened
