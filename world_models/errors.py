"""The one exception that reaches the user as a sentence instead of a traceback."""


class UserError(ValueError):
    """Input that cannot work. The message is one sentence naming the field, the value and what would do."""
