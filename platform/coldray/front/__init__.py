"""What ``import coldray`` offers: functions for a notebook, over the objects of the library."""
