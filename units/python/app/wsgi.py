"""Says which release answers. /slow takes a moment: a swap lets it finish."""
import os
import time

RELEASE = os.environ["SUPD_RELEASE"]    # the label that it was deployed under


def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.1)
    body = f"hello from release {RELEASE}\n".encode()
    headers = [
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(body))),
        ("X-Served-By", f"{RELEASE}/{os.getpid()}"),
    ]
    start_response("200 OK", headers)
    return [body]
