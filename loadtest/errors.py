"""What a user did that cannot be done: one line, which says what to do instead."""


class UserError(Exception):
    """Its text is all that is shown."""
