"""A file system that stops answering: FUSE by hand, mounted in a namespace of its own. test_dead_file_system.py starts
it and tells it on standard input what to do.

    fuse_server.py FOLDER

mounts at FOLDER, says `mounted`, and serves `0` … `63` (small), and `large`. `hang` on standard input: from now on no
request is answered, `answer`: those that wait are, and what comes. `deaf`: requests are not even read, so that the
kernel may still end who waits. What was asked is said on standard output, a word each (`lookup`, `read`, …), while it
hangs."""
import ctypes
import errno
import os
import select
import struct
import sys

SMALL, LARGE = 64, 64 << 20
MODE_FOLDER, MODE_FILE = 0o40755, 0o100644
OPERATIONS = {1: 'lookup', 3: 'getattr', 14: 'open', 15: 'read', 17: 'statfs', 18: 'release', 25: 'flush', 27: 'opendir',
              29: 'releasedir', 34: 'access'}
FORGET, INIT, INTERRUPT, BATCH_FORGET = 2, 26, 36, 42


def content_of(node, offset, size):
    if node == SMALL + 2:
        return b'L' * max(min(size, LARGE - offset), 0)
    return f'document {node - 2} of a slow disk\n'.encode()[offset:offset + size]


def size_of(node):
    return 0 if node == 1 else LARGE if node == SMALL + 2 else len(content_of(node, 0, 100))


def attributes(node):
    size = size_of(node)
    mode = MODE_FOLDER if node == 1 else MODE_FILE
    return struct.pack('<QQQQQQIIIIIIIIII', node, size, size >> 9, 1, 1, 1, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def entry(node):
    # Nothing is kept: each open and each read asks again.
    return struct.pack('<QQQQII', node, 0, 0, 0, 0, 0) + attributes(node)


def node_by(name):
    if name == b'large':
        return SMALL + 2
    return int(name) + 2 if name.isdigit() and int(name) < SMALL else 0


def answer(operation, node, body):
    """(errno, bytes)"""
    if operation == 1:
        found = node_by(body.rstrip(b'\0'))
        return (0, entry(found)) if found else (errno.ENOENT, b'')
    if operation == 3:
        return 0, struct.pack('<QII', 0, 0, 0) + attributes(node)
    if operation in (14, 27):
        return 0, struct.pack('<QII', node, 1, 0)  # FOPEN_DIRECT_IO
    if operation == 15:
        offset, size = struct.unpack_from('<QI', body, 8)
        return 0, content_of(node, offset, size)
    if operation == 17:
        return 0, struct.pack('<QQQQQIIII', 0, 0, 0, 0, 0, 4096, 255, 4096, 0) + b'\0' * 24
    if operation in (18, 25, 29, 34):
        return 0, b''
    return errno.ENOSYS, b''


def reply(device, unique, error, data):
    try:
        os.write(device, struct.pack('<IiQ', 16 + len(data), -error, unique) + data)
    except OSError as failure:
        if failure.errno not in (errno.ENOENT, errno.EINVAL):  # who asked was ended meanwhile
            raise


def mount(folder):
    device = os.open('/dev/fuse', os.O_RDWR)
    options = f'fd={device},rootmode=40000,user_id=0,group_id=0,allow_other'
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b'test', folder.encode(), b'fuse.test', 0, options.encode()):
        raise OSError(ctypes.get_errno(), 'mount')
    return device


def serve(device):
    hangs, is_deaf, waiting = False, False, []
    while True:
        ready, _, _ = select.select([0] if is_deaf else [0, device], [], [])
        if 0 in ready:
            word = os.read(0, 100).decode().strip()
            if not word:
                return
            hangs, is_deaf = word != 'answer', word == 'deaf'
            for one in [] if hangs else waiting:
                reply(device, one[0], *answer(*one[1:]))
            waiting = waiting if hangs else []
            print(word, flush=True)
        elif device in ready:
            request = os.read(device, 1 << 20)
            _, operation, unique, node = struct.unpack_from('<IIQQ', request)
            body = request[40:]
            if operation == INIT:
                reply(device, unique, 0, struct.pack('<IIIIHHIIHHI', 7, 31, 0, 0, 16, 12, 1 << 16, 1, 0, 0, 0) + b'\0' * 28)
            elif operation in (FORGET, INTERRUPT, BATCH_FORGET):
                pass
            elif hangs:
                print(OPERATIONS.get(operation, operation), flush=True)
                waiting.append((unique, operation, node, body))
            else:
                reply(device, unique, *answer(operation, node, body))


if __name__ == '__main__':
    DEVICE = mount(sys.argv[1])
    print('mounted', flush=True)
    serve(DEVICE)
