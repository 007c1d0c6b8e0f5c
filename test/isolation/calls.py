"""Counts system calls in the kernel:
{(name of the process, number of filters it is behind, number of the call, two of its arguments): count}.

A program of BPF at the tracepoint of all system calls, put together here by hand: a debugger that stops at each call
slows what it watches so much that it is another program. Needs root. It counts in one pid namespace only."""
import collections
import ctypes
import os
import platform
import struct

# include/uapi/linux/bpf.h
MAP_CREATE, MAP_LOOKUP, MAP_NEXT_KEY, PROGRAM_LOAD, RAW_TRACEPOINT_OPEN = 0, 1, 4, 5, 17
HASH, RAW_TRACEPOINT = 1, 17
LOOKUP, UPDATE, DELETE, GET_PID, GET_COMM, READ_KERNEL, GET_NS_PID = 1, 2, 3, 14, 16, 113, 120
# Of the machine: the calls bpf, seccomp, execve and execveat; where pt_regs has a call's first three arguments.
MACHINES = {'x86_64': (321, 317, (59, 322), (112, 104, 96)), 'aarch64': (280, 277, (221, 281), (0, 8, 16))}
BPF, SECCOMP, EXECS, ARGUMENTS = MACHINES.get(platform.machine(), MACHINES['x86_64'])
ARGUMENT = -24  # its place in the frame
KEY, NAME = '=16sIIII', 16  # depth, call, two arguments
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    memory = ctypes.create_string_buffer(attributes.ljust(128, b'\0'), 128)
    value = libc.syscall(BPF, command, memory, 128)
    if value < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()) + f' (bpf {command})')
    return value


def address(memory):
    return ctypes.addressof(memory)


class Code:
    """Instructions; r0 to r9 and the frame pointer r10 as the kernel names them."""

    def __init__(self):
        self.bytes, self.jumps, self.labels = [], [], {}

    def add(self, code, to=0, source=0, offset=0, value=0):
        self.bytes.append(struct.pack('=BBhi', code, source << 4 | to, offset, value))

    def move(self, to, source):
        self.add(0xbf, to, source)

    def set(self, to, value):
        self.add(0xb7, to, value=value)

    def frame(self, to, at):  # a place of the frame
        self.move(to, 10)
        self.add(0x07, to, value=at)

    def load(self, to, source, offset, size=8):
        self.add({8: 0x79, 4: 0x61}[size], to, source, offset)

    def store(self, at, source, size=8):
        self.add({8: 0x7b, 4: 0x63}[size], 10, source, at)

    def map(self, to, number):
        self.add(0x18, to, 1, value=number)
        self.add(0)

    def wide(self, to, value):
        self.add(0x18, to, value=value & 0xffffffff if value & 0xffffffff < 1 << 31 else (value & 0xffffffff) - (1 << 32))
        self.add(0, value=value >> 32)

    def call(self, helper):
        self.add(0x85, value=helper)

    def jump(self, code, to, value, label):
        self.jumps.append((len(self.bytes), label))
        self.add(code, to, value=value)

    def if_equal(self, to, value, label):
        self.jump(0x15, to, value, label)

    def if_not(self, to, value, label):
        self.jump(0x55, to, value, label)

    def label(self, name):
        self.labels[name] = len(self.bytes)

    def end(self):
        self.set(0, 0)
        self.add(0x95)

    def assemble(self):
        for at, label in self.jumps:
            code = self.bytes[at]
            self.bytes[at] = code[:2] + struct.pack('=h', self.labels[label] - at - 1) + code[4:]
        return b''.join(self.bytes)


class Counter:
    """Counts from its making on, in the pid namespace behind that path, e.g. /proc/1/ns/pid. told_apart: {call: up to two
    of its arguments}, calls that are others by them; 0 stands for all else."""

    def __init__(self, namespace, told_apart):
        self.told_apart = told_apart
        self.depths = self.new_map(4, 8, 65536)
        self.calls = self.new_map(struct.calcsize(KEY), 8, 16384)
        place = os.stat(namespace)
        self.attach(self.program(os.major(place.st_dev) << 20 | os.minor(place.st_dev), place.st_ino))

    @staticmethod
    def new_map(key_size, value_size, entries):
        return bpf(MAP_CREATE, struct.pack('=IIIII', HASH, key_size, value_size, entries, 0))

    @staticmethod
    def load_argument(code, number):
        """Into r1."""
        code.frame(1, ARGUMENT)
        code.set(2, 8)
        code.move(3, 6)
        code.add(0x07, 3, value=ARGUMENTS[number])
        code.call(READ_KERNEL)
        code.load(1, 10, ARGUMENT)

    @staticmethod
    def put(code, table, key, value):
        """r1 under that key; key and value are places of the frame."""
        code.store(value, 1)
        code.map(1, table)
        code.frame(2, key)
        code.frame(3, value)
        code.set(4, 0)
        code.call(UPDATE)

    def program(self, device, inode):
        code, process, depth, key, pids = Code(), -4, -16, -56, -64
        code.load(6, 1, 0)  # the registers
        code.load(7, 1, 8)  # the call
        code.wide(1, device)
        code.wide(2, inode)
        code.frame(3, pids)
        code.set(4, 8)
        code.call(GET_NS_PID)
        code.if_not(0, 0, 'end')
        code.call(GET_PID)
        code.add(0x77, 0, value=32)
        code.store(process, 0, 4)
        # A number of a process is given again, but what is behind a filter executes nothing.
        for call in EXECS:
            code.if_equal(7, call, 'forget')
        code.map(1, self.depths)
        code.frame(2, process)
        code.call(LOOKUP)
        code.set(8, 0)
        code.if_equal(0, 0, 'known')
        code.load(8, 0, 0)
        code.label('known')
        # seccomp(SECCOMP_SET_MODE_FILTER, flags, not NULL): libseccomp asks for flags with NULL.
        code.if_not(7, SECCOMP, 'count')
        self.load_argument(code, 0)
        code.if_not(1, 1, 'count')
        self.load_argument(code, 2)
        code.if_equal(1, 0, 'count')
        code.move(1, 8)
        code.add(0x07, 1, value=1)
        self.put(code, self.depths, process, depth)
        code.label('count')
        code.if_equal(8, 0, 'end')
        code.frame(1, key)
        code.set(2, NAME)
        code.call(GET_COMM)
        code.store(key + NAME, 8, 4)
        code.store(key + NAME + 4, 7, 4)
        code.set(1, 0)
        code.store(key + NAME + 8, 1)
        for call, arguments in self.told_apart.items():
            code.if_not(7, call, f'not {call}')
            for i, argument in enumerate(arguments):
                self.load_argument(code, argument)
                code.store(key + NAME + 8 + 4 * i, 1, 4)
            code.label(f'not {call}')
        code.map(1, self.calls)
        code.frame(2, key)
        code.call(LOOKUP)
        code.if_equal(0, 0, 'first')
        code.set(1, 1)
        code.add(0xdb, 0, 1)  # one more, atomically
        code.end()
        code.label('first')
        code.set(1, 1)
        self.put(code, self.calls, key, depth)
        code.end()
        code.label('forget')
        code.map(1, self.depths)
        code.frame(2, process)
        code.call(DELETE)
        code.label('end')
        code.end()
        return code.assemble()

    def attach(self, program):
        code, license_, log = (ctypes.create_string_buffer(b) for b in (program, b'GPL', bytes(1 << 16)))
        name = ctypes.create_string_buffer(b'sys_enter')
        try:
            loaded = bpf(PROGRAM_LOAD, struct.pack('=IIQQIIQ', RAW_TRACEPOINT, len(program) // 8, address(code), address(license_),
                                                   1, len(log), address(log)))
        except OSError as error:
            raise OSError(error.errno, f'{error.strerror}\n{log.value.decode()[-2000:]}') from None
        self.link = bpf(RAW_TRACEPOINT_OPEN, struct.pack('=QI', address(name), loaded))

    def read(self):
        found, before = collections.Counter(), None
        while True:
            key, value = ctypes.create_string_buffer(struct.calcsize(KEY)), ctypes.create_string_buffer(8)
            try:
                bpf(MAP_NEXT_KEY, struct.pack('=IIQQ', self.calls, 0, address(before) if before else 0, address(key)))
            except FileNotFoundError:
                return found
            bpf(MAP_LOOKUP, struct.pack('=IIQQ', self.calls, 0, address(key), address(value)))
            name, depth, call, *arguments = struct.unpack(KEY, key.raw)
            found[name.rstrip(b'\0').decode(), depth, call, *arguments] = struct.unpack('=Q', value.raw)[0]
            before = key
