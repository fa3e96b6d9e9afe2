"""The search of a study: proposals, trials, shared computations."""
