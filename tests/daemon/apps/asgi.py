"""An ASGI application that says who it is. The version is read once, when it is imported."""
import asyncio
import os
import pathlib

FOLDER = pathlib.Path(__file__).parent
VERSION = (FOLDER / "version").read_text().strip()
BODY = b"." * 1000 + b"\n"


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.1)
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(BODY)).encode()),
        (b"x-served-by", f"{VERSION}/{os.getpid()}".encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY})
