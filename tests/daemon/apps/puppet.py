"""A worker that does what a test tells it, over a socket of its own: one JSON object a line, one answer
each. Every message of the notify socket goes out exactly as the test wrote it.

The socket is puppet-PID.sock beside this file. A signal is remembered and, but for those that a test told
it to bear, obeyed.
"""
import json
import os
import pathlib
import select
import signal
import socket
import struct
import sys
import time

FOLDER = pathlib.Path(__file__).parent
NOTIFY = os.environ["NOTIFY_SOCKET"]
seen = []
bears = {"SIGHUP", "SIGUSR1"}


def on_signal(number, _):
    name = signal.Signals(number).name
    seen.append(name)
    if name not in bears:
        os._exit(0)


for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, on_signal)


def send(text, fds=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(NOTIFY)
        socket.send_fds(sock, [text.encode()], list(fds))


def say(text, fds=0, pidfd=None):
    if pidfd is not None:
        fd = os.pidfd_open(pidfd)
        send(text, [fd])
        os.close(fd)
        return None
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(fds)]
    send(text, files)
    for fd in files:
        os.close(fd)


def say_from_child(text):
    """From a child that is gone before supd can look at it, or not: as it happens."""
    if os.fork() == 0:
        send(text)
        os._exit(0)
    os.wait()


def barrier(text="BARRIER=1", copies=1):
    """How long until every copy of the other end was closed; None: five seconds were not enough."""
    ours, theirs = os.pipe()
    began = time.monotonic()
    send(text, [theirs] * copies)
    os.close(theirs)
    poll = select.poll()
    poll.register(ours, 0)
    hung_up = poll.poll(5000)
    os.close(ours)
    return time.monotonic() - began if hung_up else None


def stamp(back_ms=0):
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000 - back_ms * 1000


def bear(*names):
    bears.update(names)


def fork():
    """A child that listens to the test as well, at its own socket."""
    child = os.fork()
    if child == 0:
        door.close()
        obey()
    return child


def inode(pid):
    fd = os.pidfd_open(pid)
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def given():
    """What sd_listen_fds(3) would see, and FDSTORE."""
    names = os.environ.get("LISTEN_FDNAMES")
    return {
        "fds": int(os.environ.get("LISTEN_FDS", "0")),
        "names": names.split(":") if names else [],
        "mine": os.environ.get("LISTEN_PID") == str(os.getpid()),
        "fdstore": os.environ.get("FDSTORE"),
        "inherited": sum(1 for fd in range(3, 300) if is_inherited(fd)),
    }


def is_inherited(fd):
    """Whatever Python itself opens is not."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


def make(kind, text=""):
    """New descriptors, by number; they stay open."""
    if kind == "memfd":
        fd = os.memfd_create("state")
        os.write(fd, text.encode())
        return [fd]
    if kind == "pair":
        return [sock.detach() for sock in socket.socketpair()]
    if kind == "accepted":
        with socket.socket(fileno=os.dup(3)) as listener:
            listener.setblocking(True)
            connection, _ = listener.accept()
            return [connection.detach()]
    if kind == "lingering":
        # Its close waits for half a minute, as nobody reads what was sent.
        listener = socket.create_server(("127.0.0.1", 0))
        connection = socket.create_connection(listener.getsockname())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
        connection.setblocking(False)
        try:
            while True:
                connection.send(bytes(65536))
        except BlockingIOError:
            return [sock.detach() for sock in (connection, listener.accept()[0], listener)]
    return [os.open("/dev/null", os.O_RDONLY)]


def content(fd):
    return os.pread(fd, 4096, 0).decode()


def flood(count, each):
    """So many messages, each with so many descriptors of its own."""
    for _ in range(count):
        files = [os.open("/dev/null", os.O_RDONLY) for _ in range(each)]
        send("FDSTORE=1\nFDNAME=flood", files)
        for fd in files:
            os.close(fd)


def hung_up(fd):
    """Whether nobody has the other end any more, once everything that was said before has counted."""
    barrier()
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(5000))


verbs = {
    "hung_up": hung_up,
    "given": given, "make": make, "content": content, "flood": flood, "close": os.close,
    "give": lambda text, *fds: send(text, fds), "write": lambda fd, text: os.write(fd, text.encode()),
    "say": say, "say_from_child": say_from_child, "barrier": barrier, "stamp": stamp, "bear": bear,
    "fork": fork, "inode": inode, "seen": lambda: list(seen), "exit": os._exit,
    "exit_saying": lambda text, code: (send(text), os._exit(code)),
}


def obey():
    global door
    path = FOLDER / f"puppet-{os.getpid()}.sock"
    door = socket.socket(socket.AF_UNIX)
    door.bind(f"{path}.new")
    door.listen()
    os.rename(f"{path}.new", path)
    while True:
        connection, _ = door.accept()
        with connection, connection.makefile("rw") as lines:
            for line in lines:
                verb, *arguments = json.loads(line)
                options = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
                print(json.dumps(verbs[verb](*arguments, **options)), file=lines, flush=True)


print("puppet", os.getpid(), *sys.argv[1:], flush=True)
for text in sys.argv[1:]:
    send(text.replace("\\n", "\n"))
obey()
