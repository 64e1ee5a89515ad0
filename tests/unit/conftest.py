"""One thread a process, and no time limits.

The networks here are too small to gain from a second thread, and more threads than cores wait for each other,
spinning.
"""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which is later

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")
