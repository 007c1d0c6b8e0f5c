"""Who includes whom: layers, cycles, owners of libraries, the shape of headers."""
import os
import subprocess

import scan

# Modules of these levels are engines and what they stand on: no system's header but C's own.
PURE_LEVELS = (0, 2, 3)
C_HEADERS = {name + '.h' for name in (
    'assert ctype errno float inttypes limits math stdalign stdarg stdbool stddef stdint stdio stdlib '
    'stdnoreturn string').split()}
# ASan's interface: an arena poisons what it did not hand out.
C_HEADERS.add('sanitizer/asan_interface.h')
# inet_pton and inet_ntop: text to bytes and back, no system call.
C_HEADERS.add('arpa/inet.h')
# MUST says where it failed, and ends. AWS-LC asks for the time as a struct timeval.
SYSTEM_TOO = {('src/base/fail.c', 'unistd.h'), ('src/tls/policy.c', 'sys/time.h')}
# The message table is ipc's second public header: whoever fills in a message needs no channel.
PUBLIC_TOO = {'ipc/messages.h'}


def layers(tree):
    """A module includes only modules of lower levels, and of those only the public header."""
    levels, _ = tree.layers()
    for path in tree.files('.c', '.h'):
        module = tree.module(path)
        if module not in levels:
            yield f'{path}: module {module} is not in src/layers.txt'
            continue
        for line, kind, name in scan.includes(tree.read(path)):
            if kind != '"':
                continue
            other = name.split('/')[0]
            if '/' not in name or other not in levels:
                yield f'{path}:{line}: "{name}" is not written from src, or of no module'
            elif other == module:
                continue
            elif levels[other] >= levels[module]:
                yield f'{path}:{line}: {module} (level {levels[module]}) includes {other} (level {levels[other]})'
            elif name != f'{other}/{other}.h' and name not in PUBLIC_TOO:
                yield f'{path}:{line}: "{name}" is private to {other}'


def cycles(tree):
    """No file includes itself over others, no module knows one that knows it."""
    files, modules = {}, {}
    for path in tree.files('.c', '.h'):
        names = ['src/' + name for _, kind, name in scan.includes(tree.read(path)) if kind == '"']
        files[path] = names
        modules.setdefault(tree.module(path), set()).update(tree.module(n) for n in names)
    for module, others in modules.items():
        others.discard(module)
    for kind, graph in (('files', files), ('modules', modules)):
        cycle = find_cycle(graph)
        if cycle:
            yield f'{kind} include each other: ' + ' → '.join(cycle)


def find_cycle(graph):
    done = set()

    def walk(node, way):
        if node in way:
            return way[way.index(node):] + [node]
        if node in done:
            return None
        for other in sorted(graph.get(node, ())):
            found = walk(other, way + [node])
            if found:
                return found
        done.add(node)
        return None

    for node in sorted(graph):
        found = walk(node, [])
        if found:
            return found
    return None


def owners(tree):
    """A library's headers are included by the module that owns it; engines include no system's header."""
    levels, owned = tree.layers()
    for path in tree.files('.c', '.h'):
        module = tree.module(path)
        for line, kind, name in scan.includes(tree.read(path)):
            if kind != '<':
                continue
            matching = [p for p in owned if name == p or (p.endswith('/') and name.startswith(p))]
            if matching:
                allowed = owned[max(matching, key=len)]
                if module not in allowed:
                    yield f'{path}:{line}: <{name}> belongs to {", ".join(allowed)}'
            elif levels.get(module) in PURE_LEVELS and name not in C_HEADERS and (path, name) not in SYSTEM_TOO:
                yield f'{path}:{line}: <{name}>: {module} is level {levels[module]} and makes no system call'


def headers(tree):
    """One public header per module; it opens with a comment, guards itself; sources include it first."""
    modules = {}
    for path in tree.files('.c', '.h'):
        modules.setdefault(tree.module(path), []).append(path)
    modules.pop('main', None)
    for module, paths in sorted(modules.items()):
        public = f'src/{module}/{module}.h'
        if public not in paths:
            yield f'src/{module}: no public header {public}'
        elif not tree.read(public).startswith('/* '):
            yield f'{public}: does not open with a comment that says what the module is'
        for path in paths:
            text = tree.read(path)
            if path.endswith('.h'):
                if '\n#pragma once\n' not in text:
                    yield f'{path}: no #pragma once'
                continue
            first = next(iter(scan.includes(text)), None)
            if first and not first[2].startswith(module + '/'):
                yield f'{path}:{first[0]}: the first include is not of its own module'


def alone(tree):
    """Every header compiles alone."""
    flags = ['-std=gnu17', '-D_GNU_SOURCE', '-Wall', '-Wextra', '-Werror', '-Wno-unused-function', '-fsyntax-only']
    for path in tree.files('.h'):
        done = subprocess.run(['gcc', *flags, *tree.include_flags(), '-x', 'c', '-'], capture_output=True, text=True,
                              input=f'#include "{os.path.join(tree.root, path)}"\n', check=False)
        if done.returncode:
            errors = [line for line in done.stderr.split('\n') if 'error' in line]
            yield f'{path}: does not compile alone: ' + (errors or [done.stderr])[0]
