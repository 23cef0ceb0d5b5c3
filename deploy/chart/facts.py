"""What the chart's templates have to know of the service: profiles, models, grace periods."""

from typing import Any

from service.grace import ENGINE_EXIT_SECONDS, FINISH_SECONDS, NOTICE_SECONDS
from service.models.known import MODELS, find
from service.profiles import PROFILES, Profile
from service.profiles.placement import place


def data() -> dict[str, Any]:
    """`files/facts.yaml`: by profile what an engine asks for, by model what is fetched."""
    return {
        "profiles": {profile.name: _profile(profile) for profile in PROFILES.values()},
        # Gigabytes of a fetched model; one that is built on the spot has none.
        "models": {
            model.name: {"gigabytes": -(-model.download_bytes // 10**9) if model.repo else 0}
            for model in MODELS.values()
        },
        "grace": {
            "notice": int(NOTICE_SECONDS),
            "finish": int(FINISH_SECONDS),
            "engineExit": int(ENGINE_EXIT_SECONDS),
        },
    }


def _profile(profile: Profile) -> dict[str, Any]:
    asked = place(profile)
    return {
        "vendor": profile.vendor.value,
        "resource": asked.resource or "",
        "cards": asked.cards,
        "cores": asked.cores,
        "memoryGiB": asked.memory_gib,
        "sharedGiB": asked.shared_gib,
        "nodes": [
            {"key": term.key, "operator": term.operator, "values": list(term.values)}
            for term in asked.nodes
        ],
        "model": next(iter(profile.models)),
        "models": {
            find(name).name: {"seats": one.max_num_seqs} for name, one in profile.models.items()
        },
    }
