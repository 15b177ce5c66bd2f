"""Is the worker in its accept loop? A readiness check for servers that never say so themselves.

A connection to a listener that two generations share proves nothing: the old one may answer it. So
this looks at the one fact that is the new process's own: an epoll set of the worker, or of one of
its children, watches the listener. The kernel shows it in /proc/PID/fdinfo (proc(5)): the `tfd:`
lines of an epoll descriptor name each watched file by its inode, and the listener's inode is what
descriptor 3, inherited, links to.

Ends with 0 if so, with 1 if not yet. The worker is $MAINPID.
"""
import os
import re
import sys


def watched(pid):
    """Inodes of everything that the process's epoll sets watch."""
    inodes = set()
    folder = f"/proc/{pid}/fdinfo"
    for fd in os.listdir(folder):
        try:
            with open(f"{folder}/{fd}") as info:
                for line in info:
                    if line.startswith("tfd:"):
                        inodes.add(int(re.search(r"ino:([0-9a-f]+)", line)[1], 16))
        except FileNotFoundError:
            pass
    return inodes


def listeners(pid):
    """Inodes of all sockets that the process has open at descriptor 3 or as a copy of it."""
    target = os.readlink(f"/proc/{pid}/fd/3")
    return int(re.fullmatch(r"socket:\[(\d+)\]", target)[1])


def family(pid):
    """The process, and all below it."""
    yield pid
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as children:
            for child in children.read().split():
                yield from family(child)


try:
    main = os.environ["MAINPID"]
    listener = listeners(main)
    sys.exit(0 if any(listener in watched(pid) for pid in family(main)) else 1)
except (FileNotFoundError, ProcessLookupError, TypeError):
    sys.exit(1)
