"""Combinations of parameters, few of them, in which any two values of different parameters meet."""

from itertools import combinations, product


def pairwise(**values):
    """Return the names and the combinations of parameters as ``pytest.mark.parametrize`` takes them.

    Each is the one of all combinations, the first of the best, that has most pairs of values which no earlier one has.
    """
    every = [frozenset(combinations(enumerate(places), 2)) for places in product(*map(_places, values.values()))]
    missing, chosen = set().union(*every), []
    while missing:
        chosen.append(max(every, key=lambda pairs: len(pairs & missing)))
        missing -= chosen[-1]
    lists = list(values.values())
    rows = [dict(place for pair in pairs for place in pair) for pairs in chosen]
    return ",".join(values), [tuple(one[row[name]] for name, one in enumerate(lists)) for row in rows]


def _places(values):
    return range(len(values))
