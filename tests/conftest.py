"""What all tests have in common."""

import signal

from hypothesis import HealthCheck, settings

# A shell starts what runs in its background with Ctrl-C ignored, and everything that tests start
# would inherit that. Some of it is sent a Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long one example takes says something about the machine, which has other things to do, too.
settings.register_profile("gptoss", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gptoss")
