"""The errors under the name that models registered by earlier versions import them from; see ``core.errors``."""

from coldray.core.errors import DataFormatError, UnknownIdError

__all__ = ["DataFormatError", "UnknownIdError"]
