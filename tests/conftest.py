"""What all tests have in common."""

import signal

# A shell starts what runs in its background with Ctrl-C ignored, and everything that tests start
# would inherit that. Some of it is sent a Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
