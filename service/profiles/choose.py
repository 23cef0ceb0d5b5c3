"""Picks the model and the profile for the cards that a machine has. Pure."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from service.errors import UserError
from service.models.known import GPT_OSS_20B, GPT_OSS_TINY, MODELS
from service.models.known import find as find_model
from service.models.model import Model
from service.profiles.cpu import CPU_DEV
from service.profiles.known import PROFILES
from service.profiles.known import find as find_profile
from service.profiles.planner import Plan, fit, plan
from service.profiles.profile import GPU, Profile, Vendor


@dataclass(frozen=True, slots=True)
class Choice:
    """What an engine on this machine runs, and why."""

    model: Model
    profile: Profile
    plan: Plan
    reason: str
    """One sentence for a person."""
    devices: tuple[int, ...] = ()
    """Cards that the engine must be confined to; empty when any will do (all are alike)."""


def choose(gpus: Sequence[GPU], model: str | None = None, profile: str | None = None) -> Choice:
    """The largest model that fits the cards, unless told otherwise.

    `model` and `profile` are honoured, or refused with the reason. Without a GPU it is the tiny
    model on the CPU; a machine whose cards are all too small is refused, not demoted to its CPU.
    """
    wanted = find_model(model) if model else None
    if profile:
        return _choose_by_profile(gpus, wanted, find_profile(profile))
    if wanted is GPT_OSS_TINY or (wanted is None and not gpus):
        reason = f"{GPT_OSS_TINY.name} on the CPU: " + (
            "asked for" if wanted else "no GPU was found"
        )
        return Choice(GPT_OSS_TINY, CPU_DEV, plan(GPT_OSS_TINY, CPU_DEV), reason)
    if not gpus:
        raise UserError(
            f"{model} needs a GPU and none was found: choose model {GPT_OSS_TINY.name}, or with a "
            "Xeon that has AMX profile cpu-amx and model gpt-oss-20b"
        )
    candidates = [wanted] if wanted else list(MODELS.values())
    for candidate in candidates:
        if found := _best(gpus, candidate, "asked for" if wanted else "the largest that fits"):
            return found
    raise UserError(_nothing_fits(gpus, wanted))


def _choose_by_profile(gpus: Sequence[GPU], model: Model | None, profile: Profile) -> Choice:
    proven = plan(model or MODELS[next(iter(profile.models))], profile)
    cards = _cards_for(profile, gpus)
    if not cards:
        reason = f"{proven.model.name} on the CPU: profile {profile.name} was asked for"
        return Choice(proven.model, profile, proven, reason)
    reason = f"profile {profile.name} was asked for"
    if not profile.recognises(cards[0]):
        reason += f", although it is made for {profile.cards}"
    return _choice(proven, cards, gpus, reason)


def _cards_for(profile: Profile, gpus: Sequence[GPU]) -> tuple[GPU, ...]:
    """The machine's largest set of alike cards that the profile can use; none for a CPU."""
    if profile.vendor is Vendor.CPU:
        return ()
    needs = f"profile {profile.name} needs {profile.cards}"
    if not gpus:
        raise UserError(
            f"{needs}, and no GPU was found: check that the container or VM is given its cards, "
            f"or choose profile {CPU_DEV.name}"
        )
    able = [cards for cards in _alike(gpus) if profile.can_run_on(cards[0])]
    best = max(able, key=len, default=())
    if len(best) >= profile.gpus:
        return best
    raise UserError(f"{needs}: {_why_not(profile, gpus, best)}; {_hint(gpus)}")


def _why_not(profile: Profile, gpus: Sequence[GPU], able: Sequence[GPU]) -> str:
    """What the cards lack."""
    if able:
        return f"it takes {profile.gpus} alike, and there are {len(able)} x {able[0]}"
    same_vendor = [gpu for gpu in gpus if gpu.vendor is profile.vendor]
    if not same_vendor:
        return f"it is for {profile.vendor.value} cards, and there are {_inventory(gpus)}"
    modern = [gpu for gpu in same_vendor if profile.supports(gpu.arch)]
    if not modern:
        return f"it needs {profile.arch} or later, and {same_vendor[0]} is {same_vendor[0].arch}"
    return f"it plans with {profile.memory_gib} GiB on each card, and there are {_inventory(gpus)}"


def _best(gpus: Sequence[GPU], model: Model, why: str = "") -> Choice | None:
    """The best profile for one model: roomy before tight, made for the card, fewest cards."""
    found = [
        (fitted, cards)
        for cards in _alike(gpus)
        for profile in _profiles_for(cards[0])
        if (fitted := _try(model, profile)) and len(cards) >= profile.gpus
    ]
    if not found:
        return None
    best, cards = min(found, key=lambda pair: _rank(pair[0]))
    return _choice(best, cards, gpus, why)


def _rank(candidate: Plan) -> tuple[bool, int, int]:
    return (candidate.settings.tight, candidate.profile.gpus, -candidate.kv_bytes)


def _try(model: Model, profile: Profile) -> Plan | None:
    settings = profile.models.get(model.name)
    fitted = fit(model, profile, settings) if settings else None
    return fitted if fitted and fitted.fits else None


def _profiles_for(gpu: GPU) -> list[Profile]:
    """Profiles made for the card; generic ones only when there is none."""
    able = [profile for profile in PROFILES.values() if profile.recognises(gpu)]
    return [profile for profile in able if not profile.generic] or able


def _alike(gpus: Sequence[GPU]) -> Iterator[tuple[GPU, ...]]:
    """Cards in sets that can form one engine: same name, memory and architecture."""
    kinds = dict.fromkeys((gpu.vendor, gpu.name, gpu.memory_gib, gpu.arch) for gpu in gpus)
    for kind in kinds:
        yield tuple(gpu for gpu in gpus if (gpu.vendor, gpu.name, gpu.memory_gib, gpu.arch) == kind)


def _choice(proven: Plan, cards: Sequence[GPU], gpus: Sequence[GPU], why: str) -> Choice:
    profile = proven.profile
    used = profile.gpus
    reason = f"{proven.model.name} with profile {profile.name} ({why}): {_inventory(gpus)} found"
    if len(cards) > used:
        engines = len(cards) // used
        reason += f", an engine uses {used}" + (f", {engines} engines fit" if engines > 1 else "")
    if proven.settings.tight:
        reason += "; it is tight on so little memory"
    mixed = len(cards) < len(gpus)
    devices = tuple(card.index for card in cards[:used]) if mixed else ()
    return Choice(proven.model, profile, proven, reason, devices)


def _nothing_fits(gpus: Sequence[GPU], wanted: Model | None) -> str:
    """The refusal when no profile is possible: the least demanding one, tried on the best card."""
    model = wanted or GPT_OSS_20B
    vendor = gpus[0].vendor
    mine = [profile for profile in PROFILES.values() if profile.vendor is vendor]
    least = min(
        (fitted for profile in mine if (fitted := _try(model, profile))),
        key=lambda fitted: (fitted.profile.memory_gib * fitted.profile.gpus, fitted.profile.arch),
    )
    card = max((gpu for gpu in gpus if gpu.vendor is vendor), key=lambda gpu: gpu.memory_gib)
    trial = fit(model, replace(least.profile, memory_gib=card.memory_gib), least.settings)
    if not any(profile.supports(card.arch) for profile in mine):
        reason = f"its kernels need {least.profile.arch}, and this is {card.arch}"
    elif trial.fits:
        reason = f"the least that a profile plans with is {least.profile.memory_gib} GiB"
    else:
        reason = trial.arithmetic()
    return f"{model.name} does not fit {_inventory(gpus)}: {reason}; {_hint(gpus)}"


def _hint(gpus: Sequence[GPU]) -> str:
    """What these cards can run."""
    for model in MODELS.values():
        if model is not GPT_OSS_TINY and (found := _best(gpus, model)):
            return f"these cards can run {model.name} with profile {found.profile.name}"
    return f"profile {CPU_DEV.name} runs {GPT_OSS_TINY.name} on the CPU"


def _inventory(gpus: Sequence[GPU]) -> str:
    return ", ".join(f"{count} x {card}" for card, count in Counter(map(str, gpus)).items())
