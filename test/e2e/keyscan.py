"""Private keys of a test, as pieces that a scan of memory looks for, and the scan itself (test/isolation/scan.c)."""
import base64
import os
import re
import subprocess

import pytest

from gateway import ROOT, is_sanitized

PIECE = 16


def scanner():
    path = os.path.join(ROOT, 'build-asan', 'test', 'isolation', 'isolation-scan')
    if not os.access(path, os.X_OK):
        pytest.skip('the scanner is not built: run `make asan`')
    if os.geteuid() != 0:
        pytest.skip('needs root to read other processes')
    return path


# ---- Keys ---------------------------------------------------------------------------------------------------

KINDS = {
    'P-256': ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
    'P-384': ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384'],
    'RSA-2048': ['-newkey', 'rsa:2048'],
}


class Key:
    """NAME.key and NAME.crt (signed by itself) in a folder."""

    def __init__(self, folder, name, kind):
        self.name, self.kind = name, kind
        self.key, self.certificate = f'{folder}/{name}.key', f'{folder}/{name}.crt'
        subprocess.run(['openssl', 'req', '-x509', *KINDS[kind], '-nodes', '-keyout', self.key, '-out', self.certificate,
                        '-subj', f'/CN={name}', '-addext', f'subjectAltName=DNS:{name}', '-days', '30'],
                       check=True, capture_output=True)
        with open(self.key, encoding='utf-8') as file:
            self.der = base64.b64decode(''.join(re.findall(r'^[A-Za-z0-9+/=]+$', file.read(), re.M)))
        self.secrets = private_numbers(self.der)

    def pieces(self):
        """Of every private number in both byte orders, and of the file's base64: a part of one is as good as all."""
        found = set()
        for secret in self.secrets:
            for number in (secret, secret[::-1]):
                found.update(number[at:at + PIECE] for at in range(0, len(number) - PIECE + 1, 8))
            at = self.der.index(secret)
            start, end = -(-at // 3), (at + len(secret)) // 3
            text = base64.b64encode(self.der[start * 3:end * 3])
            found.update(text[i:i + PIECE] for i in range(0, len(text) - PIECE + 1, 8))
        return found


def elements(der):
    """The values of the elements of one level: (tag, bytes)."""
    at, found = 0, []
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7f
            length = int.from_bytes(der[at:at + count], 'big')
            at += count
        found.append((tag, der[at:at + length]))
        at += length
    return found


def private_numbers(der):
    """Of PKCS #8: the scalar, or d, p, q, d mod p-1, d mod q-1 and q^-1 mod p; without leading zeros."""
    outer = elements(elements(der)[0][1])
    inner = [value for _, value in elements(elements(outer[2][1])[0][1])]
    numbers = inner[1:2] if len(inner) < 9 else inner[3:9]
    return [number.lstrip(b'\0') for number in numbers]


def write_pieces(path, keys):
    pieces = sorted(set().union(*(key.pieces() for key in keys)))
    assert all(len(piece) == PIECE for piece in pieces) and len(pieces) > 10 * len(keys)
    with open(path, 'wb') as file:
        file.write(b''.join(pieces))
    return path


# ---- The scan -----------------------------------------------------------------------------------------------

class Scan:
    def __init__(self, pieces, pid):
        done = subprocess.run([scanner(), pieces, str(pid)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.text = done.stdout
        self.maps = re.findall(r'^map (\S+) (\S+) (.*) read (\d+) refused (\d+)$', self.text, re.M)
        assert is_sanitized() or not re.search('^skipped', self.text, re.M), self.text
        self.hit_maps = sorted(set(re.findall(r'^hit \S+ \S+ (.*)$', self.text, re.M)))
        read, refused, hits = re.search(r'^process \d+ read (\d+) refused (\d+) hits (\d+)$', self.text, re.M).groups()
        self.read, self.refused, self.hits = int(read), int(refused), int(hits)

    def read_of(self, name):
        return sum(int(read) for _, _, mapped, read, _ in self.maps if name in mapped)
