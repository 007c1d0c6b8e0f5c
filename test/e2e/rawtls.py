"""A TLS 1.3 client that sends records which no library would: the handshake is the library's, the records
after it are sealed here, with the keys that it logs."""
import contextlib
import os
import socket
import ssl
import struct
import tempfile

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from client import tls_context
from gateway import SAFETY_SECONDS

DATA, HANDSHAKE, ALERT, CIPHER_CHANGE = 23, 22, 21, 20
KEY_UPDATE = b'\x18\0\0\1\0'
WARNING = b'\1\x5a'  # user_canceled
SUITES = {'TLS_AES_128_GCM_SHA256': (AESGCM, 16, hashes.SHA256), 'TLS_AES_256_GCM_SHA384': (AESGCM, 32, hashes.SHA384),
          'TLS_CHACHA20_POLY1305_SHA256': (ChaCha20Poly1305, 32, hashes.SHA256)}


def expand(secret, label, length, hash_type):
    """HKDF-Expand-Label without a context (RFC 8446, 7.1); at most one block is needed."""
    label = b'tls13 ' + label
    mac = hmac.HMAC(secret, hash_type())
    mac.update(struct.pack('>HB', length, len(label)) + label + b'\0' + b'\1')
    return mac.finalize()[:length]


class RawTls:
    def __init__(self, port, name='localhost', timeout=SAFETY_SECONDS):
        context = tls_context(least=ssl.TLSVersion.TLSv1_3)
        with tempfile.NamedTemporaryFile('r', prefix='portcullis-keys-') as log:
            context.keylog_filename = log.name
            self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
            self.socket = socket.create_connection(('127.0.0.1', port), timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.handshake()
            secrets = dict((line.split()[0], line.split()[2]) for line in log.read().split('\n') if line.count(' ') == 2)
        self.aead, self.key_len, self.hash = SUITES[self.tls.cipher()[0]]
        self.use(bytes.fromhex(secrets['CLIENT_TRAFFIC_SECRET_0']))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.close()

    def handshake(self):
        while True:
            try:
                self.tls.do_handshake()
                self.socket.sendall(self.outgoing.read())
                return
            except ssl.SSLWantReadError:
                self.socket.sendall(self.outgoing.read())
                data = self.socket.recv(65536)
                assert data, 'closed within the handshake'
                self.incoming.write(data)

    def use(self, secret):
        self.secret, self.sequence = secret, 0
        self.sealer = self.aead(expand(secret, b'key', self.key_len, self.hash))
        self.iv = expand(secret, b'iv', 12, self.hash)

    def record(self, kind, content):
        """One record, sealed; after a KeyUpdate the next key."""
        plain = content + bytes([kind])
        head = b'\x17\3\3' + struct.pack('>H', len(plain) + 16)
        nonce = (int.from_bytes(self.iv, 'big') ^ self.sequence).to_bytes(12, 'big')
        self.sequence += 1
        sealed = head + self.sealer.encrypt(nonce, plain, head)
        if kind == HANDSHAKE and content == KEY_UPDATE:
            self.use(expand(self.secret, b'traffic upd', self.hash.digest_size, self.hash))
        return sealed

    def send(self, kind, *contents):
        self.socket.sendall(b''.join(self.record(kind, content) for content in contents))

    def is_closed(self):
        """Reads to the end: True. False: the other side waits for us (nothing came for a while)."""
        self.socket.settimeout(SAFETY_SECONDS)
        try:
            while True:
                data = self.socket.recv(65536)
                if not data:
                    return True
                self.incoming.write(data)
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def answer(self):
        """The start of what comes back, at least one line; None at the end."""
        got = b''
        while b'\r\n' not in got:
            try:
                got += self.tls.read(65536)
            except ssl.SSLWantReadError:
                data = b''
                with contextlib.suppress(ConnectionError):
                    data = self.socket.recv(65536)
                if not data:
                    return None
                self.incoming.write(data)
            except ssl.SSLError:
                return None
        return got
