"""One thread a process: the networks here are too small to gain from two, and several processes on as many cores spin.

Two test processes with two OpenMP threads each on two cores take four times as long as with one each.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which is later
