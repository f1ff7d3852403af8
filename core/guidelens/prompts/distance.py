"""The edit distance between two texts."""

from __future__ import annotations


def edit_distance(a: str, b: str) -> int:
    """Return the optimal string alignment distance of two texts, in characters.

    The distance is the smallest number of insertions, deletions, replacements and swaps of neighbouring characters
    (Damerau 1964) that turn ``a`` into ``b``. No character is edited twice.
    """
    if a == b:
        return 0
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, last, row = row, before, [i]
        for j, y in enumerate(b, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]
