"""What is wrong and what to do about it, in one line."""


class Fault(Exception):
    """Shown without a traceback; the command ends with status 1."""
