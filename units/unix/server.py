"""HTTP on the UNIX socket that supd lends. Ends gracefully: stops accepting, answers what it accepted,
tells kept-alive clients that the next answer is the last. /slow takes a moment: a swap lets it finish."""
import os
import select
import signal
import socket
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler

VERSION = "1"
BODY = f"hello from version {VERSION}\n".encode()
ending = threading.Event()


def notify(message):
    """sd_notify(3): one datagram."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supd:
        supd.sendto(message.encode(), os.environ["NOTIFY_SOCKET"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(0.1)
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.send_header("X-Served-By", f"{VERSION}/{os.getpid()}")
        if ending.is_set():
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(BODY)

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        pass


# Descriptor 3, if it is meant for this process and was not inherited by mistake.
if os.environ.get("LISTEN_PID") != str(os.getpid()):
    raise SystemExit("start me under supd")
listener = socket.socket(fileno=3)
# With Workers = 2 they accept from one socket: select may tell both of one client, and only one gets it.
listener.setblocking(False)

# The signal wakes select through this pair.
wake, woken = socket.socketpair()
wake.setblocking(False)
signal.set_wakeup_fd(wake.fileno())
signal.signal(signal.SIGTERM, lambda *_: None)

server = socketserver.BaseServer(None, Handler)
open_now = set()


def serve(connection):
    try:
        Handler(connection, ("", 0), server)
    except ConnectionError:
        pass
    finally:
        connection.close()
        open_now.discard(threading.current_thread())


notify("READY=1")
while True:
    readable, _, _ = select.select([listener, woken], [], [])
    if woken in readable:
        break
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        continue
    connection.setblocking(True)
    connection.settimeout(5)
    thread = threading.Thread(target=serve, args=(connection,), daemon=True)
    open_now.add(thread)
    thread.start()
ending.set()
listener.close()
for thread in list(open_now):
    thread.join(6)
