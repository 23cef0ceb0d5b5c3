"""Made once a session, and copied by who damages it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.airgap import image, registry, world
from tests.airgap.registry import Registry
from tests.airgap.world import Connected
from tests.integration.hub import FakeHub
from tests.integration.test_weights import LFS, make_files


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Podman and buildah keep images there, and not where this machine's are."""
    folder = tmp_path_factory.mktemp("store")
    config = folder / "storage.conf"
    config.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_STORAGE_CONF", str(config))
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        yield folder


@pytest.fixture(scope="session")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights as `gptoss weights` fetched them from a hub that is gone."""
    folder = tmp_path_factory.mktemp("connected") / "weights"
    with FakeHub(make_files(), LFS).listening() as hub:
        done = world.weights(folder, HF_ENDPOINT=hub.endpoint)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="session")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The registry of the connected side."""
    if reason := registry.missing():
        pytest.skip(reason)
    with registry.serving(tmp_path_factory.mktemp("public") / "registry") as one:
        yield one


@pytest.fixture(scope="session")
def connected(public: Registry, claim: Path, tmp_path_factory: pytest.TempPathFactory) -> Connected:
    """Everything that the installation needs, one of its images by the digest of a list."""
    made = tmp_path_factory.mktemp("images")
    digest = image.make_list(made / "list", "valkey", "amd64", "arm64")
    images = {f"valkey/valkey@{digest}": digest}
    public.put(made / "list", f"public/valkey/valkey@{digest}")
    for name in ("gptoss-engine:0.1.0", "gptoss-gateway:0.1.0", "postgres:17.6-bookworm"):
        images[name] = image.make(made / name.replace(":", "_"), name)
        public.put(made / name.replace(":", "_"), f"public/{name}")
    rendered = world.offline(images={"registry": world.REGISTRY, "valkey": {"digest": digest}})
    return Connected(public, images, claim, rendered)


@pytest.fixture(scope="session")
def bundled(connected: Connected, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, which nobody may change."""
    out = tmp_path_factory.mktemp("bundled") / "out"
    done = connected.bundle(out)
    assert done.status == 0, done.err
    return out
