"""abrupt.py with a leak: at SIGUSR1 it takes memory until it gets no more, and dies of that.

hungry.py VERSION FILE: where FILE is there it does so before it is ready.
"""

import os
import runpy
import signal
import sys


def eat(*_):
    eaten = []
    while True:
        eaten.append(bytearray(1 << 24))


here = os.path.dirname(os.path.abspath(__file__))
_, version, full = sys.argv
if os.path.exists(full):
    eat()
sys.argv = ["abrupt.py", version]
# abrupt.py would note it.
real = signal.signal
signal.signal = lambda number, handler: real(number, eat if number == signal.SIGUSR1 else handler)
runpy.run_path(os.path.join(here, "abrupt.py"), run_name="__main__")
