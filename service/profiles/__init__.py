"""How gpt-oss runs on each kind of card, and the arithmetic that proves it. Pure."""

from service.profiles.choose import Choice, choose
from service.profiles.known import PROFILES, find
from service.profiles.planner import Plan, plan
from service.profiles.profile import GPU, Profile, Settings, Vendor

__all__ = [
    "GPU",
    "PROFILES",
    "Choice",
    "Plan",
    "Profile",
    "Settings",
    "Vendor",
    "choose",
    "find",
    "plan",
]
