"""A MySQL client that sends exactly what a test tells it to, command by command.

Never repairs, reorders or retries anything; what the peer sent is returned as it came.
Tests get it from a `Maitred`, a `MariaDB`, a `MySQL`, or build a `MysqlWire` themselves.
"""

from __future__ import annotations

import ssl
import struct
from dataclasses import replace
from typing import Any

from pymysql import _auth as pymysql_auth

import fix_mysql_packets as packets
from fix_mysql_packets import (
    CAPABILITIES,
    CURSOR_EXISTS,
    MORE_RESULTS,
    USUAL,
    Answer,
    Err,
    Infile,
    Ok,
    Prepared,
    Rows,
    string,
)
from fix_mysql_stream import LARGEST, MysqlStream
from fix_processes import DEADLINE_S


class MysqlError(Exception):
    """An error packet where the test wanted something else."""

    def __init__(self, answer: Err) -> None:
        super().__init__(f"{answer.number} ({answer.state}): {answer.text}")
        self.answer = answer
        self.number = answer.number
        self.state = answer.state


class MysqlWire(MysqlStream):
    """One raw connection to `address`, (host, port) or the path of a Unix socket."""

    def __init__(
        self,
        address: tuple[str, int] | str,
        timeout_s: float = DEADLINE_S,
        receive_buffer: int | None = None,
    ) -> None:
        super().__init__(address, timeout_s, receive_buffer)
        self.capabilities = 0
        self.status = 0
        self.tracked: list[tuple[str, ...]] = []
        # What the peer asked during the login: auth switches, whether the full path was walked.
        self.asked: list[str] = []
        self.greeting = packets.Greeting("", 0, b"", 0, 0, 0, "")

    def __enter__(self) -> MysqlWire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Login

    def login(
        self,
        user: str = "app",
        database: str | None = "shop",
        password: str = "opensesame",
        *,
        with_: str = "",
        without: str = "",
        plugin: str | None = None,
        tls: ssl.SSLContext | None = None,
        collation: int = 45,
        attributes: dict[str, str] | None = None,
    ) -> Answer:
        """Greeting to the final OK; capabilities by name: `with_` and `without` the usual ones.

        Raises:
            MysqlError: refused.
            MysqlClosed: refused without a word.
        """
        self.read_greeting()
        wanted = (set(USUAL) | set(with_.split())) - set(without.split())
        wanted |= {"CONNECT_WITH_DB"} if database else set()
        wanted |= {"CONNECT_ATTRS"} if attributes else set()
        wanted |= {"SSL"} if tls else set()
        told = sum(CAPABILITIES[name] for name in wanted)
        # Why: an optional thing must not be used with a peer that has not offered it.
        self.capabilities = told & (self.greeting.capabilities | CAPABILITIES["CONNECT_WITH_DB"])
        head = struct.pack("<IIB23x", self.capabilities, 1 << 24, collation)
        if tls:
            self.send_packet(head)
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        chosen = self.greeting.plugin if plugin is None else plugin
        proof = self._proof(chosen, password, self.greeting.salt)
        body = head + user.encode() + b"\0" + string(proof)
        if database:
            body += database.encode() + b"\0"
        body += chosen.encode() + b"\0"
        if attributes:
            body += string(b"".join(string(k) + string(v) for k, v in attributes.items()))
        if self.capabilities & CAPABILITIES["ZSTD"]:
            body += b"\x03"
        self.send_packet(body)
        done = self._finish_login(chosen, password)
        if self.capabilities & CAPABILITIES["COMPRESS"]:
            self.compression = "zlib"
        elif self.capabilities & CAPABILITIES["ZSTD"]:
            self.compression = "zstd"
        return done

    def read_greeting(self) -> packets.Greeting:
        self._sequence = 0
        body = self.read_packet()
        if body[:1] == b"\xff":
            raise MysqlError(packets.error(body))
        self.greeting = packets.greeting(body)
        return self.greeting

    def _finish_login(self, plugin: str, password: str) -> Ok:
        while True:
            body = self.read_packet()
            if body[:1] == b"\xff":
                raise MysqlError(packets.error(body))
            if body[:1] == b"\x00":
                done = packets.ok(body, self.capabilities)
                self._remember(done)
                return done
            if body[:1] == b"\xfe":
                name, _, salt = body[1:].partition(b"\0")
                plugin = name.decode()
                self.asked.append(plugin)
                # Spec: 20 bytes of salt (32 for ed25519) and, of most servers, a zero behind them.
                salt = salt[: 32 if len(salt) >= 32 else 20]
                self.greeting = replace(self.greeting, salt=salt)
                self.send_packet(self._proof(plugin, password, salt))
                continue
            assert body[:1] == b"\x01", f"unexpected in a login: {body!r}"
            self._more_data(body[1:], password)

    def _more_data(self, told: bytes, password: str) -> None:
        """caching_sha2_password's further steps."""
        if told == b"\x03":
            self.asked.append("fast")
            return
        if told == b"\x04":
            self.asked.append("full")
            if isinstance(self.socket, ssl.SSLSocket) or isinstance(self.address, str):
                self.send_packet(password.encode() + b"\0")
            else:
                self.send_packet(b"\x02")
            return
        self.asked.append("key")
        self.send_packet(
            pymysql_auth.sha2_rsa_encrypt(password.encode(), self.greeting.salt[:20], told)
        )

    def _proof(self, plugin: str, password: str, salt: bytes) -> bytes:
        secret = password.encode()
        if plugin == "mysql_clear_password":
            return secret + b"\0"
        if plugin == "client_ed25519":
            return pymysql_auth.ed25519_password(secret, salt)
        if plugin == "caching_sha2_password":
            return pymysql_auth.scramble_caching_sha2(secret, salt[:20]) if secret else b""
        if plugin in ("mysql_native_password", ""):
            return pymysql_auth.scramble_native_password(secret, salt[:20]) if secret else b""
        return b""

    # Answers

    def _remember(self, done: Ok) -> None:
        self.status = done.status
        self.tracked += done.tracked

    @property
    def _no_eof(self) -> bool:
        return bool(self.capabilities & CAPABILITIES["DEPRECATE_EOF"])

    def read_answer(self, *, binary: bool = False) -> Answer:
        """One answer: OK, error, a whole result set, or the question for a file."""
        body = self.read_packet()
        if body[:1] == b"\xff":
            return packets.error(body)
        if body[:1] == b"\x00":
            done = packets.ok(body, self.capabilities)
            self._remember(done)
            return done
        if body[:1] == b"\xfb":
            return Infile(body[1:].decode())
        count = packets.Reader(body).count() or 0
        return self._read_rows(self._read_columns(count), binary)

    def _read_columns(self, count: int) -> tuple[packets.Column, ...]:
        found = tuple(packets.column(self.read_packet()) for _ in range(count))
        if count and not self._no_eof:
            end = self.read_packet()
            assert end[:1] == b"\xfe", f"columns end with {end!r}"
            self.status = packets.eof(end).status
        return found

    def _read_rows(self, columns: tuple[packets.Column, ...], binary: bool) -> Rows:
        got = Rows(columns)
        if self.status & CURSOR_EXISTS and binary and not self._no_eof:
            return got.ended(Ok(status=self.status))
        return self._read_until_end(got, binary)

    def _read_until_end(self, got: Rows, binary: bool) -> Rows:
        read = packets.binary_row if binary else packets.text_row
        while True:
            body = self.read_packet()
            if body[:1] == b"\xff":
                return got.ended(packets.error(body))
            if body[:1] == b"\xfe" and len(body) < (LARGEST if self._no_eof else 9):
                end = packets.ok(body, self.capabilities) if self._no_eof else packets.eof(body)
                self._remember(end)
                return got.ended(end)
            got.rows.append(read(body, got.columns))

    def read_answers(self, *, binary: bool = False) -> list[Answer]:
        """An answer and all that follow it by its MORE_RESULTS."""
        found = [self.read_answer(binary=binary)]
        while True:
            last = found[-1].end if isinstance(found[-1], Rows) else found[-1]
            if not isinstance(last, Ok) or not last.status & MORE_RESULTS:
                return found
            found.append(self.read_answer(binary=binary))

    # Conversation

    def query(self, sql: str | bytes) -> list[Answer]:
        """COM_QUERY; all its answers."""
        self.send("QUERY", sql if isinstance(sql, bytes) else sql.encode())
        return self.read_answers()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement that must succeed; of its last result set."""
        found: list[tuple[Any, ...]] = []
        for each in self.query(sql):
            end = each.end if isinstance(each, Rows) else each
            if isinstance(end, Err):
                raise MysqlError(end)
            found = each.rows if isinstance(each, Rows) else found
        return found

    def run(self, *statements: str) -> None:
        """Statements that must succeed."""
        for sql in statements:
            self.rows(sql)

    def value(self, sql: str) -> Any:
        return self.rows(sql)[0][0]

    def error(self, sql: str) -> Err:
        """The error of a statement that must fail but leave the connection open."""
        last = self.query(sql)[-1]
        end = last.end if isinstance(last, Rows) else last
        assert isinstance(end, Err), f"no error from {sql!r}: {last}"
        return end

    def ask(self, name: str | int, body: bytes = b"") -> Answer:
        """A command that has one answer."""
        self.send(name, body)
        return self.read_answer()

    def expect_ok(self, name: str | int, body: bytes = b"") -> Ok:
        got = self.ask(name, body)
        if isinstance(got, Err):
            raise MysqlError(got)
        assert isinstance(got, Ok), got
        return got

    def thread(self) -> int:
        """Connection id of the server that answers at this moment."""
        return int(self.value("select connection_id()"))

    @property
    def in_transaction(self) -> bool:
        return bool(self.status & packets.IN_TRANSACTION)

    # Prepared statements

    def prepare(self, sql: str) -> Prepared | Err:
        self.send("STMT_PREPARE", sql.encode())
        return self.read_prepared()

    def read_prepared(self) -> Prepared | Err:
        body = self.read_packet()
        if body[:1] == b"\xff":
            return packets.error(body)
        number, columns, parameters, warnings = struct.unpack_from("<xIHHxH", body)
        given = self._read_columns(parameters)
        return Prepared(number, given, self._read_columns(columns), warnings)

    def prepared(self, sql: str) -> Prepared:
        """A statement that must be prepared."""
        got = self.prepare(sql)
        if isinstance(got, Err):
            raise MysqlError(got)
        return got

    def execution(
        self, statement: int, values: tuple[Any, ...] = (), *, cursor: int = 0, types: bool = True
    ) -> bytes:
        """The body of COM_STMT_EXECUTE; integers go as such, text and bytes as strings.

        A value of `...` was sent before as long data.
        """
        body = struct.pack("<IBI", statement, cursor, 1)
        if not values:
            return body
        nulls = sum(1 << n for n, value in enumerate(values) if value is None)
        body += nulls.to_bytes((len(values) + 7) // 8, "little") + bytes([types])
        if types:
            for value in values:
                body += b"\x08\0" if isinstance(value, int) else b"\xfd\0"
        for value in values:
            if isinstance(value, int):
                body += struct.pack("<q", value)
            elif value is not None and value is not ...:
                body += string(value)
        return body

    def execute(
        self, statement: int, values: tuple[Any, ...] = (), *, cursor: int = 0, types: bool = True
    ) -> list[Answer]:
        self.send("STMT_EXECUTE", self.execution(statement, values, cursor=cursor, types=types))
        return self.read_answers(binary=True)

    def executed(self, statement: int, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of an execution that must succeed."""
        found: list[tuple[Any, ...]] = []
        for each in self.execute(statement, values):
            end = each.end if isinstance(each, Rows) else each
            if isinstance(end, Err):
                raise MysqlError(end)
            found = each.rows if isinstance(each, Rows) else found
        return found

    def fetch(self, statement: Prepared, count: int) -> Rows | Err:
        """COM_STMT_FETCH of at most `count` rows."""
        self.send("STMT_FETCH", struct.pack("<II", statement.id, count))
        got = self._read_until_end(Rows(statement.columns), binary=True)
        return got.end if isinstance(got.end, Err) and not got.rows else got

    def long_data(self, statement: int, parameter: int, data: bytes) -> None:
        """COM_STMT_SEND_LONG_DATA, which is not answered."""
        self.send("STMT_SEND_LONG_DATA", struct.pack("<IH", statement, parameter) + data)

    def close_statement(self, statement: int) -> None:
        """COM_STMT_CLOSE, which is not answered."""
        self.send("STMT_CLOSE", struct.pack("<I", statement))

    def change_user(
        self,
        user: str,
        database: str = "",
        password: str = "opensesame",
        *,
        plugin: str = "mysql_native_password",
        collation: int = 45,
    ) -> Ok:
        """COM_CHANGE_USER to its final OK.

        Raises:
            MysqlError: refused.
        """
        proof = self._proof(plugin, password, self.greeting.salt)
        body = user.encode() + b"\0" + bytes([len(proof)]) + proof + database.encode() + b"\0"
        body += struct.pack("<H", collation) + plugin.encode() + b"\0"
        if self.capabilities & CAPABILITIES["CONNECT_ATTRS"]:
            body += b"\0"
        self.send("CHANGE_USER", body)
        return self._finish_login(plugin, password)

    def upload(self, content: bytes, part: int = 1 << 16) -> list[Answer]:
        """Answer the question for a file."""
        for at in range(0, len(content), part):
            self.send_packet(content[at : at + part])
        self.send_packet(b"")
        return self.read_answers()
