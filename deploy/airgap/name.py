"""Names of images: `images.registry` of the chart, and what it is put in front of."""

from collections.abc import Iterable

from deploy.airgap.fault import Fault


def within(images: Iterable[str], registry: str | None) -> dict[str, str]:
    """Every image's name without the registry, and the name as rendered.

    Not given, it is nothing, unless all images have one host, of which only a person knows how much
    is the registry's and how much the repository's.
    """
    images = list(images)
    if registry is None:
        _ask(images)
        return {image: image for image in images}
    front = f"{registry.rstrip('/')}/" if registry else ""
    for image in images:
        if not image.startswith(front):
            raise Fault(
                f"{image} is not from {registry}: --registry is the render's images.registry"
            )
    return {image.removeprefix(front): image for image in images}


def _ask(images: list[str]) -> None:
    hosts = {image.partition("/")[0] for image in images if "/" in image}
    if len(hosts) == 1 and all(image.startswith(f"{min(hosts)}/") for image in images):
        if not is_host(host := min(hosts)):
            return
        raise Fault(
            f"every image is from {host}: give the render's images.registry, as in "
            f"`--registry {_common(images)}` (or `--registry ''` if it had none)"
        )


def is_host(word: str) -> bool:
    """Whether the first part of a name is a registry's address, by docker's rule."""
    return "." in word or ":" in word or word == "localhost"


def _common(images: list[str]) -> str:
    folders = [image.split("/")[:-1] for image in images]
    shared = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared)


def file(image: str) -> str:
    """The archive's name; every file system can have it."""
    return f"images/{image.replace('/', '+').replace(':', '=')}.tar"


def has_digest(image: str) -> bool:
    """Whether it is named by its digest."""
    return "@" in image
