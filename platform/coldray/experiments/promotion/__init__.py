"""Whether a new version takes the champion's place."""
