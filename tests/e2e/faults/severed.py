"""A road between two unix sockets, or to a TCP port, that can be cut so that neither side is told, as in a partition.

    python -m tests.e2e.faults.severed LISTEN TARGET SWITCH

Bytes pass while the file SWITCH exists, and wait while it does not.
"""

import asyncio
import sys
from pathlib import Path


async def main(listen: Path, target: Path, switch: Path) -> None:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                while not switch.exists():
                    await asyncio.sleep(0.05)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not switch.exists():
            await asyncio.sleep(0.05)
        there, back = await asyncio.open_unix_connection(str(target))
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_unix_server(serve, str(listen))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*(Path(name) for name in sys.argv[1:4])))
