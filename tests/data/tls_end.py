"""Speaks TLS before a server that does not: what comes in is passed on as it is, and back.

    tls_end.py CERTIFICATE KEY HOST PORT

Listens on a port of the loopback that the system chooses and prints `listening at HOST:PORT`.
"""

import asyncio
import ssl
import sys


async def copy(reader, writer):
    try:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
            await writer.drain()
    except OSError:
        # One side is gone, and so is the connection.
        pass
    writer.close()


async def main(certificate, key, host, port):
    async def connected(reader, writer):
        from_server, to_server = await asyncio.open_connection(host, port)
        await asyncio.gather(copy(reader, to_server), copy(from_server, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    print("listening at {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


asyncio.run(main(*sys.argv[1:]))
