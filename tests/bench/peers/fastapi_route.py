"""A plain FastAPI WebSocket route with the usual connection manager: one `send_text` per client and message."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

clients: list[WebSocket] = []


async def feed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send every line that comes to every client."""
    while line := await reader.readline():
        text = line.decode().rstrip("\n")
        for client in clients:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # gone meanwhile
                await client.send_text(text)
    writer.close()


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Listen for the feed while the application runs."""
    async with await asyncio.start_server(feed, "127.0.0.1", int(sys.argv[2]), limit=1_048_576):
        yield


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def connect(websocket: WebSocket) -> None:
    """Keep a client until it goes."""
    await websocket.accept()
    clients.append(websocket)
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.receive_text()
    clients.remove(websocket)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", ws_per_message_deflate=False)
