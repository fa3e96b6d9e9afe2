"""What is to become of a new version of a registered model: the champion, which is served, or a challenger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["always", "if-better", "never"]
Place: TypeAlias = Literal["champion", "challenger"]
MODES: tuple[Mode, ...] = ("always", "if-better", "never")
CHAMPION: Place = "champion"
CHALLENGER: Place = "challenger"


@dataclass(frozen=True)
class Promotion:
    """What is to become of a new version, as decided when it was tested; the registry may have moved on until then."""

    mode: Mode
    alias: Place
    reason: str
    """Why, in a sentence."""
    champion: str | None = None
    """Key of the champion that was there then, see :func:`~coldray.tracking.champion.champion_key`; None for none."""
    asked: bool = True
    """False if the registry could not be asked: it is then asked when the version is registered."""

    @property
    def words(self) -> str:
        """The decision as a report shows it."""
        return f"alias {self.alias}: {self.reason}"
