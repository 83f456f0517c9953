"""Says how surely a median is known: an interval for it, out of the order of the repeats alone."""

import math
from collections.abc import Sequence

Z_95 = 1.96  # of a normal distribution: 95% lie within


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a 95% confidence interval of the median.

    The number of values below the median is binomial, whatever their distribution is, so that two of the ordered
    values are the ends. Repeats count as independent. With fewer than six, the ends are the least and the greatest,
    which is less than 95%.
    """
    ordered, count = sorted(values), len(values)
    low = math.floor((count - Z_95 * math.sqrt(count)) / 2)
    low = min(max(low, 1), (count + 1) // 2)  # the so-maniest value, from 1
    return ordered[low - 1], ordered[count - low]


def half_width(values: Sequence[float], median: float) -> float:
    """Return half the interval's width as a share of the median."""
    low, high = median_interval(values)
    return (high - low) / 2 / median
