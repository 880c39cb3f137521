"""The one exception that reaches the user as a sentence instead of a traceback."""

import errno


class UserError(ValueError):
    """Input that cannot work. The message is one sentence naming the field, the value and what would do."""


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that a disk or quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "RESOURCE_EXHAUSTED: Error writing" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
