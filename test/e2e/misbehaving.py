"""The misbehaving origin (test/origin) and its table of modes."""
import collections
import os
import re
import subprocess
import threading

from gateway import ROOT, free_port, program, wait_until

TABLE = os.path.join(ROOT, 'test/origin/modes.txt')
Mode = collections.namedtuple('Mode', 'name methods pool weight status end origin client body')
POOLS = ('main', 'spoiled', 'resets', 'silent')
# Where a time limit of the origin's is the end, that one is short, so that the mixed run is.
SHORT = {mode: 'limits on /%s/* { %s }' % (mode, limits) for mode, limits in {
    'silent-on-accept': 'first-byte 400ms connect 1s', 'silent': 'first-byte 400ms', 'head-stalls': 'response-gap 400ms',
    'head-drips': 'response-gap 400ms', 'body-stalls': 'response-gap 400ms', 'trailers-stall': 'response-gap 400ms'}.items()}


def tool(name):
    """A program of test/origin; it is built beside the program that is tested."""
    for folder in (os.path.dirname(program()), os.path.join(ROOT, 'build-asan')):
        path = os.path.join(folder, 'test/origin', name)
        if os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(f'no {name}: run `make asan`')


def modes():
    with open(TABLE, encoding='utf-8') as file:
        return [Mode(*line.split()) for line in file if line.strip() and not line.startswith('#')]


class MisbehavingOrigin:
    """`requests` maps a token to its (connection, number on it)s, unless quiet."""

    def __init__(self, tls=None, quiet=False):
        self.command = [tool('misbehaving-origin'), TABLE] + (['--tls', *tls] if tls else []) + (['--quiet'] if quiet else [])
        self.is_tls, self.requests, self.foreign, self.ports, self.ended = bool(tls), collections.defaultdict(list), [], {}, set()
        self.refuses = free_port()

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().split()
        assert line[:1] == ['ports'], line
        self.ports = dict(zip(POOLS, line[1:]), refuses=str(self.refuses))
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        return self

    def read(self):
        for line in self.process.stdout:
            request = re.fullmatch(r'request (\d+) (\d+) (\S+) (\S+)\n', line)
            if request:
                self.requests[request[4]].append((int(request[1]), int(request[2])))
            elif line.startswith('ended '):
                self.ended.add(int(line.split()[1]))
            else:
                self.foreign.append(line)

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)
        self.reader.join(30)

    def routes(self, verify=''):
        """The lines of a site in front of it."""
        lines = []
        for mode in modes():
            scheme = 'https://' if self.is_tls else ''
            if mode.pool != 'main':
                lines.append(f'proxy {scheme}127.0.0.1:{self.ports[mode.pool]} on /{mode.name}/* {verify}')
        lines.append(f'proxy {"https://" if self.is_tls else ""}127.0.0.1:{self.ports["main"]} {verify}')
        return '\n'.join(lines + list(SHORT.values()))

    def requests_of(self, token):
        return wait_until(lambda: self.requests.get(token), f'the request of {token}')

    def connection_of(self, token):
        """The number of the connection that this token's (last) request came on."""
        return self.requests_of(token)[-1][0]


def body_of(token, size):
    unit = (token + '|').encode()
    return (unit * (size // len(unit) + 1))[:size]
