"""What was compiled: globals, hardening, no clock that can be moved. Reads the ordinary build."""
import os
import re

from tree import run

MUTABLE = re.compile(r'\.(data|bss|tdata|tbss|common|sdata|sbss|ldata|lbss)\b|\*COM\*')
# glibc has a checked twin of each; a program that calls one and no twin was not fortified.
FORTIFIABLE = {'memcpy', 'memmove', 'memset', 'snprintf', 'vsnprintf', 'fprintf', 'printf', 'vfprintf', 'read', 'recv',
               'strcpy', 'strncpy', 'pread', 'pread64', 'readlink', 'getcwd', 'poll'}


def globals_(tree):
    """No variable that can change, outside os. Tables with pointers in them (.data.rel.ro) do not."""
    for module, path in tree.objects():
        if module == 'os':
            continue
        for line in run(['objdump', '-t', path]).split('\n'):
            match = re.match(r'[0-9a-f]+ (.{7}) (\S+)\s+([0-9a-f]+) (?:\.hidden |0x\w+ )?(.+)', line)
            if not match or 'd' in match[1] or int(match[3], 16) == 0:
                continue
            if MUTABLE.match(match[2]) and not match[2].startswith('.data.rel.ro'):
                yield f'{module}: {os.path.basename(path)}: {match[4]} is a variable ({match[2]})'


def hardening(tree):
    """The program as the linker left it: position-independent, sealed after start, guarded."""
    program = tree.program()
    if not program:
        return
    header, segments = run(['readelf', '-hW', program]), run(['readelf', '-lW', program])
    dynamic, symbols = run(['readelf', '-dW', program]), run(['readelf', '--dyn-syms', '-W', program])
    called = set(re.findall(r'UND (\w+)', symbols))
    if not re.search(r'Type:\s+DYN', header) or 'PIE' not in dynamic:
        yield 'not position-independent (PIE)'
    if 'GNU_RELRO' not in segments:
        yield 'no RELRO'
    if not re.search(r'BIND_NOW|FLAGS_1.*\bNOW\b', dynamic):
        yield 'symbols are bound late (no BIND_NOW): RELRO is only partial'
    stack = re.search(r'GNU_STACK.*', segments)
    if not stack or re.search(r'\bR?WE\b', stack[0]):
        yield 'the stack is executable'
    if re.search(r'LOAD.*\bRWE\b', segments):
        yield 'memory that is both written and executed'
    if '__stack_chk_fail' not in called:
        yield 'no stack protector'
    if called & FORTIFIABLE and not any(name.endswith('_chk') for name in called - {'__stack_chk_fail'}):
        yield 'no _FORTIFY_SOURCE'
    if re.search(r'RPATH|RUNPATH', dynamic):
        yield 'a search path for libraries (RPATH)'
    if re.search(r'NEEDED.*lib(ssl|crypto|stdc\+\+)', dynamic):
        yield 'linked with the system\'s OpenSSL or the C++ runtime'
    if re.search(r'\b(SSL|EVP|X509)_\w+', re.sub(r'.*UND.*', '', symbols)):
        yield 'AWS-LC\'s symbols are visible to shared libraries'
    yield from indirect_branches(tree, header)


def indirect_branches(tree, header):
    """CET: every object of ours says that its indirect branches are marked (x86)."""
    if 'X86-64' not in header:
        return
    for _, path in tree.objects():
        if not re.search(r'IBT.*SHSTK|SHSTK.*IBT', run(['readelf', '-nW', path])):
            yield f'{os.path.basename(path)}: compiled without -fcf-protection'


def clock(tree):
    """The ordinary build has no message that moves the time."""
    if not tree.program():
        return
    with open(tree.program(), 'rb') as file:
        if b'clock_move' in file.read():
            yield 'build/portcullis knows the message clock_move of the test build'
