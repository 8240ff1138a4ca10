"""The one exception that a user is meant to read."""


class InputError(Exception):
    """Input that cannot be used: settings, files or rows.

    The message names the place (file, row or `section.key`), the value found, what is allowed
    and what to do about it. Stages print it without a traceback and exit with status 1.
    """
