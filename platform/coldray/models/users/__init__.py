"""Models that know users by what they are, before they have clicked anything."""
