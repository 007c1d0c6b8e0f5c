"""Mounts of a test's own: the gateway is started in a mount namespace, and nobody else sees them. So the machine's
/dev/log and certificate store stay as they are."""
import contextlib
import os
import re
import socket
import subprocess
import threading

import pytest

from gateway import program


def in_mounts(script):
    """The prefix of a gateway that runs where this shell script has mounted something."""
    if os.getuid():
        pytest.skip('needs root for mounts of its own')
    return ['unshare', '--mount', '--propagation', 'private', 'sh', '-ec', script + '\nexec "$@"', 'sh']


def own_dev(folder):
    """A /dev of its own: `folder`/dev, where the test may put a socket `log`."""
    os.mkdir(folder + '/dev')
    return in_mounts(f'''cd {folder}/dev
        for one in null zero full random urandom; do touch $one; mount --bind /dev/$one $one; done
        mount --rbind . /dev; cd /''')


def inside(gateway, *arguments, executable=None, **environment):
    """A command where the gateway's mounts are, to its end; this program's unless another is named."""
    return subprocess.run(['nsenter', '-t', str(gateway.process.pid), '-m', executable or program(), *arguments],
                          capture_output=True, text=True, timeout=60, check=False, env={**gateway.env, **environment})


class Syslog:
    """Reads datagrams as rsyslog and journald do: one a line, `<PRIORITY>TAG[PID]: TEXT`."""

    def __init__(self, path, reads=True):
        self.path, self.reads = path, reads
        self.messages = []  # (priority, pid, text)
        self.start()

    def start(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o666)
        self.thread = threading.Thread(target=self.run, args=(self.socket,), daemon=True)
        if self.reads:
            self.thread.start()

    def begin_to_read(self):
        self.reads = True
        self.thread.start()

    def run(self, source):
        while True:
            try:
                data = source.recv(1 << 17)
            except OSError:
                return
            if not data:
                return
            match = re.fullmatch(rb'<(\d+)>portcullis\[(\d+)\]: ([^\n]*)', data)
            self.messages.append((int(match[1]), int(match[2]), match[3].decode()) if match else (-1, 0, repr(data)))

    def stop(self):
        """It ends; what it had not read is lost, as with any daemon."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)
        self.thread.join(10)
        self.socket.close()
        os.unlink(self.path)
