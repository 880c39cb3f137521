"""Errors whose message reaches the user as one sentence instead of a traceback."""

import errno
from typing import Any


class UserError(ValueError):
    """Input that cannot work. The message is one sentence: what was given, and what is valid."""


class ConfigError(UserError):
    """A field of a config that cannot work.

    Attributes:
      field: its dotted name, such as "config.train.batch_size".
    """

    def __init__(self, field: str, message: str):
        """`message` names the field itself."""
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Pickles, which by default knows the message alone: worker processes raise these."""
        return type(self), (self.field, str(self))


def config_error(field: str, value: Any, valid: str) -> ConfigError:
    """The error for a field: "<field>=<value> must <valid>."

    Args:
      field: dotted name, beginning with "config.".
      value: what it is.
      valid: what it must be, an infinitive such as "be at least 1" or "divide config.model.width=64".
    """
    return ConfigError(field, f"{field}={value!r} must {valid}.")


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that a disk or quota is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error) or "RESOURCE_EXHAUSTED: Error writing" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
