"""An application for hypercorn and uvicorn (what vLLM stands on). POST /stream/N/MS answers N lines, one every MS;
POST /stats says how many streams their client ended."""

import asyncio

cancelled = 0


async def app(scope, receive, send):
    global cancelled
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    what, *numbers = scope["path"].split("/")[1:]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    if what == "stats":
        await send({"type": "http.response.body", "body": str(cancelled).encode()})
        return
    n, ms = map(int, numbers)
    gone = asyncio.ensure_future(receive())
    for i in range(n):
        await asyncio.sleep(ms / 1000)
        if gone.done():
            cancelled += 1
            return
        await send({"type": "http.response.body", "body": b"data: %06d\n\n" % i, "more_body": True})
    gone.cancel()
    await send({"type": "http.response.body", "body": b""})
