"""A WSGI application that says who it is. The version is read once, when it is imported."""
import os
import pathlib
import time

FOLDER = pathlib.Path(__file__).parent
VERSION = (FOLDER / "version").read_text().strip()
if VERSION == "broken":
    raise ImportError("this version cannot be imported, on purpose")
BODY = b"." * 1000 + b"\n"


def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.1)
    headers = [
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(BODY))),
        ("X-Served-By", f"{VERSION}/{os.getpid()}"),
    ]
    start_response("200 OK", headers)
    return [BODY]
