"""A worker that takes its listener, says everything and watches its watchdog through libsystemd.

What libsystemd found is told by STATUS and printed: a test reads it there. SIGHUP reloads it, SIGUSR1
makes it stop feeding its watchdog.
"""
import ctypes
import os
import select
import signal
import socket
import subprocess
import time

lib = ctypes.CDLL("libsystemd.so.0", use_errno=True)
lib.sd_notify.argtypes = [ctypes.c_int, ctypes.c_char_p]
lib.sd_notify_barrier.argtypes = [ctypes.c_int, ctypes.c_uint64]
lib.sd_listen_fds_with_names.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.POINTER(ctypes.c_char_p))]
lib.sd_watchdog_enabled.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_uint64)]


def notify(message):
    result = lib.sd_notify(0, message.encode())
    assert result > 0, f"sd_notify({message!r}) = {result}"


names = ctypes.POINTER(ctypes.c_char_p)()
count = lib.sd_listen_fds_with_names(0, ctypes.byref(names))
assert count == 1, f"sd_listen_fds_with_names = {count}"
name = names[0].decode()
assert lib.sd_is_socket_inet(3, socket.AF_INET, socket.SOCK_STREAM, 1, 0) > 0, "not a TCP listener"

watchdog = ctypes.c_uint64()
fed = lib.sd_watchdog_enabled(0, ctypes.byref(watchdog)) > 0
period = watchdog.value / 1e6 / 3 if fed else None

listener = socket.socket(fileno=3)
listener.setblocking(False)
wake, woken = socket.socketpair()
wake.setblocking(False)
woken.setblocking(False)
signal.set_wakeup_fd(wake.fileno())
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, lambda *_: None)

notify(f"READY=1\nSTATUS=listener {name}, watchdog {watchdog.value}")
# The barrier comes back only when supd has read everything before it.
result = lib.sd_notify_barrier(0, 5_000_000)
assert result > 0, f"sd_notify_barrier = {result}"
print("the barrier came back", flush=True)

while True:
    readable, _, _ = select.select([listener, woken], [], [], period)
    if fed:
        notify("WATCHDOG=1")
    if woken in readable:
        for number in woken.recv(64):
            if number == signal.SIGTERM:
                notify("STOPPING=1\nSTATUS=stopping")
                raise SystemExit(0)
            if number == signal.SIGUSR1:
                fed = False
            if number == signal.SIGHUP:
                stamp = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                notify(f"RELOADING=1\nMONOTONIC_USEC={stamp}")
                # A helper's word counts too, and it waits for its own barrier.
                subprocess.run(["systemd-notify", "--status=reloaded, says systemd-notify"], check=True)
                notify("READY=1")
    if listener in readable:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            continue
        with connection:
            connection.settimeout(5)
            connection.recv(2048)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Served-By: 1/{os.getpid()}\r\nConnection: close\r\n\r\nok"
            connection.sendall(head.encode())
