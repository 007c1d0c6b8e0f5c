"""What may stand in a source file: banned functions, sizes."""
import os
import re

import scan

BASE_OS = {'base', 'os'}
# (functions, modules that may call them, why not)
BANNED = [
    ('malloc calloc realloc reallocarray free aligned_alloc posix_memalign strdup strndup asprintf vasprintf',
     BASE_OS, 'memory comes from arenas and slabs'),
    ('alloca strcpy strcat strncpy strncat sprintf vsprintf gets strtok strtok_r atoi atol atoll atof', set(),
     'no bound, or no error'),
    ('getaddrinfo gethostbyname getnameinfo gethostbyaddr', set(), 'names are the dialer\'s (c-ares)'),
    ('syslog vsyslog openlog', set(), 'the log process writes'),
    ('time gettimeofday clock_gettime clock localtime localtime_r gmtime gmtime_r mktime strftime', {'os'},
     'time comes through one function of os'),
    ('rand srand random srandom drand48', set(), 'randomness is crypto\'s'),
    ('system popen', set(), 'no shell'),
    ('fork vfork clone execve execv execvp execl execlp execveat posix_spawn kill signal sigaction ptrace '
     'pthread_create', {'os'}, 'processes are os\'s'),
    ('socket socketpair connect bind listen accept accept4 send sendto sendmsg recv recvfrom recvmsg setsockopt '
     'getsockopt open openat creat read readv writev pread pwrite preadv preadv2 pwritev ioctl fcntl mmap munmap '
     'mprotect memfd_create epoll_create1 epoll_ctl epoll_wait poll select prctl setuid setgid setrlimit syscall '
     'unlink rename mkdir rmdir', {'os'}, 'system calls are os\'s'),
    ('write', BASE_OS, 'system calls are os\'s (base says with it where MUST failed)'),
    ('printf vprintf fprintf vfprintf dprintf puts fputs putchar putc fputc fwrite fopen fdopen perror',
     BASE_OS | {'command', 'main'}, 'an engine writes nothing, a process writes to the log'),
]
LIMITS = {'lines': 80, 'parameters': 6, 'nesting': 4, 'file': 800}
EXCEPTIONS_MAX = 10


def banned(tree):
    """No call of a function that has a better one, outside the modules that wrap it."""
    rules = {name: (allowed, why) for names, allowed, why in BANNED for name in names.split()}
    call = re.compile(r'(?<![\w.>])(' + '|'.join(sorted(rules, key=len, reverse=True)) + r')\s*\(')
    for path in tree.files('.c', '.h'):
        text = scan.strip(tree.read(path))
        own = set(re.findall(r'\(\s*\*\s*(\w+)\s*\)\s*\(', text))  # a pointer to a function has any name it likes
        for match in call.finditer(text):
            allowed, why = rules[match[1]]
            if match[1] not in own and tree.module(path) not in allowed and not declares(text, match.start()):
                line = text.count('\n', 0, match.start()) + 1
                yield f'{path}:{line}: {match[1]}(): {why}'


def declares(text, at):
    """Whether a type stands before the name: `int (*open)(…)` never matches, `bool open(` would."""
    before = re.search(r'(\w+)[\s*]*$', text[max(0, at - 80):at])
    return bool(before) and text[at - 1] in ' \t*\n' and before[1] not in (
        'return', 'else', 'do', 'case', 'goto', 'sizeof') and not before[1].isdigit()


def sizes(tree):
    """Functions and files fit; what does not stands in exceptions.txt with its reason."""
    excepted, complaints = read_exceptions(tree)
    yield from complaints
    used = set()
    for path in tree.files('.c', '.h'):
        text = tree.read(path)
        found = [('-', 'file', scan.file_lines(text), 1)]
        for function in scan.functions(text):
            for measure in ('lines', 'parameters', 'nesting'):
                found.append((function.name, measure, getattr(function, measure), function.line))
        for name, measure, value, line in found:
            limit = LIMITS[measure]
            if value > limit:
                used.add((path, name, measure))
                limit = excepted.get((path, name, measure), limit)
            if value > limit:
                yield f'{path}:{line}: {name}: {measure} {value}, at most {limit}'
    for path, name, measure in sorted(set(excepted) - used):
        yield f'exceptions.txt: {path} {name} {measure} needs no exception any more'


def read_exceptions(tree):
    path = 'test/house/exceptions.txt'
    excepted, complaints = {}, []
    if not tree.has(path):
        return excepted, complaints
    for line in tree.read(path).split('\n'):
        if not line.strip() or line.startswith('#'):
            continue
        words = line.split(None, 4)
        if len(words) < 5 or words[2] not in LIMITS or not words[3].isdigit():
            complaints.append(f'exceptions.txt: not "FILE FUNCTION MEASURE LIMIT REASON": {line}')
            continue
        excepted[tuple(words[:3])] = int(words[3])
    if len(excepted) > EXCEPTIONS_MAX:
        complaints.append(f'exceptions.txt: {len(excepted)} exceptions, at most {EXCEPTIONS_MAX}')
    return excepted, complaints
