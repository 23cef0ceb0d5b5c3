"""The one exception that a person is meant to read."""


class UserError(Exception):
    """Something outside the program is wrong, and whoever runs it can mend it.

    The message is one line: what is wrong, then what to do. The command line prints it without a
    traceback and exits with status 1.
    """
