"""A service manager as sd_notify(3) and sd_listen_fds(3) describe systemd: it hears what a service says, keeps
descriptors that it is handed, and starts the service's next life with them. Run as a program it is the step between:
`manager.py SOCKET PROGRAM…` fetches them, puts them behind standard error, and becomes PROGRAM."""
import array
import contextlib
import os
import socket
import struct
import sys
import threading
import time

SAFETY_SECONDS = 30
FIRST = 3
ABOVE = 500  # nothing that is to be placed is overwritten meanwhile


class Manager:
    """said: (pid of who said it, {NAME: VALUE}), in order. store: {name: descriptor}."""

    def __init__(self, folder, abstract=True, watchdog_seconds=None):
        self.said, self.store, self.watchdog_seconds = [], {}, watchdog_seconds
        self.changed = threading.Condition()
        self.path = f'@portcullis-test-{os.getpid()}-{id(self)}' if abstract else folder + '/notify'
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.notify.bind(self.path.replace('@', '\0', 1))
        self.fetch_path = folder + '/fetch'
        self.fetch = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.fetch.bind(self.fetch_path)
        self.fetch.listen()
        for work in (self.hear, self.serve):
            threading.Thread(target=work, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in (self.notify, self.fetch):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.drop()

    @property
    def environment(self):
        watchdog = {'WATCHDOG_USEC': str(int(self.watchdog_seconds * 1e6))} if self.watchdog_seconds else {}
        return {'NOTIFY_SOCKET': self.path, **watchdog}

    @property
    def prefix(self):
        """Before the command of a service."""
        return [sys.executable, os.path.abspath(__file__), self.fetch_path]

    # ---- hearing

    def hear(self):
        while True:
            try:
                data, ancillary, _, _ = self.notify.recvmsg(8192, socket.CMSG_SPACE(64 * 4) + socket.CMSG_SPACE(12))
            except OSError:
                return
            pid, handed = 0, []
            for _, kind, value in ancillary:
                if kind == socket.SCM_RIGHTS:
                    handed += array.array('i', value[:len(value) - len(value) % 4])
                elif kind == 2:  # SCM_CREDENTIALS
                    pid = struct.unpack('3i', value)[0]
            words = dict(line.split('=', 1) for line in data.decode().split('\n') if line)
            with self.changed:
                self.keep(words, handed)
                self.said.append((pid, words))
                self.changed.notify_all()

    def keep(self, words, handed):
        name = words.get('FDNAME', 'stored')
        assert ':' not in name and len(name) < 256 and name.isprintable(), name
        if words.get('FDSTOREREMOVE') == '1' and name in self.store:
            os.close(self.store.pop(name))
        for fd in handed:
            assert words.get('FDSTORE') == '1', words
            assert name not in self.store, f'{name} lies there already'
            self.store[name] = fd

    def drop(self):
        """As when the service was stopped."""
        with self.changed:
            for fd in self.store.values():
                os.close(fd)
            self.store.clear()

    # ---- what a test waits for

    def count(self, **words):
        return sum(all(said.get(name) == value for name, value in words.items()) for _, said in list(self.said))

    def wait(self, condition, what):
        end = time.monotonic() + SAFETY_SECONDS
        with self.changed:
            while not condition():
                assert self.changed.wait(max(0, end - time.monotonic())), f'{what}: {self.said[-5:]}'

    def wait_count(self, count, **words):
        self.wait(lambda: self.count(**words) >= count, f'{count} times {words}')

    def listeners(self):
        return sorted(name for name in self.store if name.startswith('listener-'))

    # ---- starting with what is kept

    def serve(self):
        while True:
            try:
                connection, _ = self.fetch.accept()
            except OSError:
                return
            with connection, self.changed:
                for name, fd in self.store.items():
                    socket.send_fds(connection, [name.encode()], [fd])


def main(path, *command):
    names, kept = [], []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as manager:
        manager.connect(path)
        while True:
            name, handed, _, _ = socket.recv_fds(manager, 256, 1)
            if not name:
                break
            os.dup2(handed[0], ABOVE + len(kept))
            os.close(handed[0])
            names.append(name.decode())
            kept.append(ABOVE + len(kept))
    for number, fd in enumerate(kept):
        os.dup2(fd, FIRST + number, inheritable=True)
        os.close(fd)
    if kept:
        os.environ.update(LISTEN_FDS=str(len(kept)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=':'.join(names))
    if 'WATCHDOG_USEC' in os.environ:
        os.environ['WATCHDOG_PID'] = str(os.getpid())
    os.execv(command[0], command)


if __name__ == '__main__':
    main(*sys.argv[1:])
