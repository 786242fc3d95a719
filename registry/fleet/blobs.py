"""`GET blobs/sha256/DIGEST`: a vector file, whole or a range of it."""

import asyncio

from registry.blobs import get_blob
from registry.fleet.answers import Ask, Refusal
from registry.fleet.conditional import read_range
from registry.fleet.threads import DaemonThreads

# A store that is slow must not keep the loop's own threads, which bring in stops and snapshots.
_READING = DaemonThreads(8, name="blobs")


async def send_blob(ask: Ask, digest: str) -> None:
    """A vector file, for ever the same. Nothing else in the store is a node's business."""
    await ask.identify()
    if not await ask.heads.is_vector(digest):
        raise Refusal(404, "BLOB_MISSING", f"no vector file {digest}")
    headers = {"ETag": f'"{digest}"', "Cache-Control": "private, max-age=31536000, immutable", "Accept-Ranges": "bytes"}
    if ask.knows(digest):
        await ask.answer(304, headers)
        return
    data = await asyncio.get_running_loop().run_in_executor(_READING, get_blob, digest)
    headers["Content-Type"] = "application/octet-stream"
    try:
        part = read_range(ask.header("range"), len(data))
    except ValueError as error:
        raise Refusal(416, "RANGE", f"the file has {len(data)} bytes", headers={"Content-Range": f"bytes */{len(data)}"}) from error
    if part is None:
        await ask.answer(200, headers, data)
    else:
        first, end = part
        await ask.answer(206, {**headers, "Content-Range": f"bytes {first}-{end - 1}/{len(data)}"}, data[first:end])
