"""A server that nobody supervises, or (with "lent") the same under supd: `olden.py VERSION ADDRESS [HOW…]`.

ADDRESS is host:port, [host]:port or a path. On SIGTERM it stops accepting, answers what it has accepted, and
ends. HOW: "lent" takes descriptor 3 and says READY=1; "unlink" removes its path at its end; "shutdown" calls
shutdown(2) on its listening socket at its end; "twice" listens with two sockets (SO_REUSEPORT); "child" serves
in a child; "wild" binds all addresses.
"""

import http.server
import os
import signal
import socket
import socketserver
import sys
import threading

version, address, how = sys.argv[1], sys.argv[2], sys.argv[3:]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        head = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Served-By: {version}/{os.getpid()}\r\n"
        self.wfile.write(f"{head}Connection: close\r\n\r\nok".encode())
        self.close_connection = True

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    request_queue_size = 1024
    block_on_close = True


def listen():
    if "lent" in how:
        return socket.socket(fileno=3)
    if address.startswith("/"):
        listener, place = socket.socket(socket.AF_UNIX), address
    else:
        host, port = address.rsplit(":", 1)
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener, place = socket.socket(family), ("" if "wild" in how else host, int(port))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if "twice" in how:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(place)
    listener.listen(1024)
    return listener


def notify():
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", path)


listener = listen()
second = listen() if "twice" in how else None
if "child" in how:
    child = os.fork()
    if child:
        listener.close()
        signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
        print("ready", flush=True)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
server = Server(("", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = listener


def end(*_):
    threading.Thread(target=server.shutdown).start()


signal.signal(signal.SIGTERM, end)
notify()
if "child" not in how:
    print("ready", flush=True)
server.serve_forever(0.05)
if "unlink" in how:
    os.unlink(address)
if "shutdown" in how:
    listener.shutdown(socket.SHUT_RDWR)
server.server_close()
