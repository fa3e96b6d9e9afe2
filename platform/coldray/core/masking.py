"""Passwords, keys and tokens in addresses, which nobody is to read on a screen, in a file or on a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_MASK = "***"
_USER_AND_PASSWORD = re.compile(
    r"""(://[^\s/@:'"]*):      # the user; empty for a password alone
        (?!\d+(?:[/?#]|$))     # a port, of an address with an @ in its path
        [^\s'"<>]*?            # the password, which may hold an @ and what should have been quoted
        @(?![^\s'"<>]*@)       # the last @: one in a path hides the host, which is better than to show a password
    """,
    re.VERBOSE,
)
_USER_ALONE = re.compile(r"""(://)[^\s/@:?#'"<>]+@""")
"""Tokens are given as users, as in ``https://token@host``."""
_QUERY = re.compile(
    r"""([?&;][\w.-]*(?:token|passw|pwd|secret|sig|credential|key)[\w.-]*=)[^\s&#;'"<>]+""", re.IGNORECASE
)
_SETTING = re.compile(
    r"""(\b[\w.-]*(?:password|passwd|pwd|secret|access_key|api_key)\s?=\s?)("[^"]*"|'[^']*'|[^\s&#;,'"<>)}]+)""",
    re.IGNORECASE,
)
_JSON = re.compile(
    r"""(["'][\w.-]*(?:password|passwd|pwd|secret|access_key|api_key|token)["']\s?:\s?)("[^"]*"|'[^']*')""",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(\b(?:Basic|Bearer) )[A-Za-z0-9+/=_~.%-]{16,}")


def masked(text: str) -> str:
    """Return a text in which passwords, keys and tokens are ``***``: the user and the place of an address stay.

    Known are ``scheme://user:password@host``, ``scheme://token@host``, values of queries, settings and JSON whose names
    say what they are (``?token=…``, ``password=…``, ``"secret": …``), and the headers of both. A text that is masked
    stays as it is.
    """
    if "@" in text:
        text = _USER_AND_PASSWORD.sub(rf"\1:{_MASK}@", text)
        text = _USER_ALONE.sub(rf"\1{_MASK}@", text)
    for pattern in (_QUERY, _SETTING):
        text = pattern.sub(rf"\1{_MASK}", text)
    text = _JSON.sub(rf'\1"{_MASK}"', text)
    return _HEADER.sub(rf"\1{_MASK}", text)


def masked_values(value: Any) -> Any:
    """Return plain values, such as those of JSON, with every text in them as of :func:`masked`."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {name: masked_values(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [masked_values(one) for one in value]
    return value
