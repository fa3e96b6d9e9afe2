"""What a comparison looks at in each winner besides its metrics."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveInt

from coldray.experiments.settings import Section


class InspectionConfig(Section):
    """What is measured of the winner of each entry, with its one test."""

    cold_item_clicks: NonNegativeInt = 10
    """Items with at most so many train clicks are the cold ones, the others the warm ones."""
    cold_user_clicks: NonNegativeInt = 20
    """Users with at most so many known clicks are the cold ones, the others the warm ones."""
    timed_users: PositiveInt = 200
    """Users who are scored one by one to find the latency; fewer if so many are not tested."""
    mapped_items: NonNegativeInt = Field(default=800, le=5000)
    """Items, those with the most train clicks, whose neighbours are compared and drawn; 0 for no map."""
    neighbours: PositiveInt = 10
    """Nearest items of each."""
    attribute: str | None = None
    """Labels that colour the map: by default those called genres, or else the first that have several labels."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of the map."""
