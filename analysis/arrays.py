"""What arrays are here, and the quantiles by which a distribution of them is stated.

Shapes stand in brackets where an array is declared. The letters that come again and again: C points of a curve, P
problems, F forms, K parameters of a form, R replicates, D paths of a forecast, X computes at which something is
asked; what a module needs beside them it says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The ends of the 90% and 50% intervals and the median, in the order of `NAMES`."""
NAMES = ("lo90", "lo50", "median", "hi50", "hi90")
INTERVAL = (0.05, 0.5, 0.95)
"""The median and the ends of the 90% interval."""
