"""Starts a program with everything about it set as it should not be: FOLDER PROGRAM ARGUMENT…

FOLDER/dirty gets what /proc says of it right before.
"""
import ctypes
import os
import resource
import signal
import sys

folder, program = sys.argv[1], sys.argv[2:]
libc = ctypes.CDLL(None, use_errno=True)


def prctl(*arguments):
    assert libc.prctl(*(ctypes.c_ulong(a) for a in arguments)) == 0, (arguments, ctypes.get_errno())


PR_SET_PDEATHSIG, PR_SET_TIMERSLACK, PR_SET_CHILD_SUBREAPER = 1, 29, 36
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN = 47, 2, 0

for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, 34, 64):
    libc.signal(int(number), ctypes.c_void_p(1))  # SIG_IGN; Python has no name for some
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
os.umask(0)
for number in (*range(3, 20), 77, 300):
    os.dup2(0, number, inheritable=True)
for which, soft in (
    (resource.RLIMIT_NOFILE, 700), (resource.RLIMIT_CORE, 4096), (resource.RLIMIT_STACK, 4 << 20),
    (resource.RLIMIT_MEMLOCK, 12345),
):
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (soft if hard < 0 else min(soft, hard), hard))
with open("/proc/self/oom_score_adj", "w") as file:
    file.write("321")
os.nice(3)
with open("/proc/self/coredump_filter", "w") as file:
    file.write("0x7f")
prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
prctl(PR_SET_TIMERSLACK, 123456, 0, 0, 0)
prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert libc.capget(header, sets) == 0
sets[2] |= 1 << CAP_CHOWN  # inheritable
assert libc.capset(header, sets) == 0
prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0)

os.mkdir(f"{folder}/dirty")
for name in ("status", "limits", "stat", "oom_score_adj", "timerslack_ns", "coredump_filter"):
    with open(f"/proc/self/{name}") as source, open(f"{folder}/dirty/{name}", "w") as target:
        target.write(source.read())

environment = {
    "PATH": "/nowhere", "HOME": "/nowhere", "USER": "wrong", "SHELL": "/bin/false", "TERM": "xterm",
    "LISTEN_FDNAMES": "x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "SUPD_UNIT": "wrong",
    "SUPD_GENERATION": "99", "INVOCATION_ID": "0" * 32, "SERVER_STARTER_PORT": "1=1", "MAINPID": "1",
    "FDSTORE": "5", "SECRET": "1", "PASSED": "on purpose", "LC_ALL": "C", "LANG": "C.UTF-8",
    "EMPTY": "", "SYSTEMD_EXEC_PID": "1", "JOURNAL_STREAM": "1:2",
}
os.execve(program[0], program, environment)
