"""A MySQL client of few lines, for loads that sysbench does not make.

It must not be used where its own cost would be measured: it blocks and does one thing at a time.
Called by `idle`.
"""

from __future__ import annotations

import hashlib
import socket
import ssl

from maitred.demo.mysql_load import CAPABILITIES, UTF8MB4, is_whole, packet

from .wire_client import WireError

SSL = 0x800  # Spec: MySQL, "Capabilities Flags", CLIENT_SSL.


def connect(port: int, role: str, password: str, database: str, *, tls: bool) -> socket.socket:
    """Log in by mysql_native_password.

    Raises:
        WireError: the server refused, or asks for another method.
    """
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    greeting = _read_packet(client)
    # Spec: MySQL, "HandshakeV10": version, id, 8 bytes of nonce, then 27 bytes on 12 more.
    after = greeting.index(b"\0", 1) + 5
    nonce = greeting[after : after + 8] + greeting[after + 27 : after + 39]
    flags = CAPABILITIES | (SSL if tls else 0)
    head = flags.to_bytes(4, "little") + (1 << 24).to_bytes(4, "little")
    head += bytes([UTF8MB4]) + bytes(23)
    sequence = 1
    if tls:
        client.sendall(packet(sequence, head))
        sequence += 1
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # Why: the certificate is made for this run, on this machine.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client = context.wrap_socket(client)
    proof = _scramble(password.encode(), nonce)
    body = f"{role}\0".encode() + bytes([len(proof)]) + proof
    client.sendall(packet(sequence, head + body + f"{database}\0mysql_native_password\0".encode()))
    answer = _read_packet(client)
    if answer[:1] != b"\0":
        raise WireError(answer.decode(errors="replace"))
    return client


def run(client: socket.socket, sql: str) -> int:
    """Send `sql` and read its whole answer; returns the bytes of the answer."""
    client.sendall(packet(0, b"\x03" + sql.encode()))
    buffer = bytearray()
    while not is_whole(buffer):
        got = client.recv(1 << 16)
        if not got:
            raise WireError("the connection was closed")
        buffer += got
    if buffer[4] == 0xFF:
        raise WireError(bytes(buffer[13:]).decode(errors="replace"))
    return len(buffer)


def _scramble(password: bytes, nonce: bytes) -> bytes:
    """Spec: MySQL, "Secure Password Authentication"."""
    once = hashlib.sha1(password).digest()
    mask = hashlib.sha1(nonce + hashlib.sha1(once).digest()).digest()
    return bytes(a ^ b for a, b in zip(once, mask, strict=True))


def _read_packet(client: socket.socket) -> bytes:
    head = _read(client, 4)
    return _read(client, int.from_bytes(head[:3], "little"))


def _read(client: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        got = client.recv(count - len(found))
        if not got:
            raise WireError("the connection was closed")
        found += got
    return found
