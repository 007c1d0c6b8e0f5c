"""A message's layout never changes: sizes and offsets of every message stand in messages.txt.

`test/house/house.py --pin` adds the messages that are new. It never changes a line: a new field is a new
number."""
import os
import re
import tempfile

import scan
from tree import run

HEADER, PINNED = 'src/ipc/messages.h', 'test/house/messages.txt'


def messages(tree):
    if not tree.has(HEADER):
        return
    found, pinned = layout(tree), read_pinned(tree)
    for name, lines in pinned.items():
        if name not in found:
            yield f'{name} is gone: older generations still send it (its line in messages.txt stays)'
        elif found[name] != lines:
            yield f'{name} changed its layout: {" ".join(lines)} → {" ".join(found[name])}'
    for name in found:
        if name not in pinned:
            yield f'{name} is not in {PINNED}: add it by test/house/house.py --pin'


def read_pinned(tree):
    pinned = {}
    for line in (tree.read(PINNED) if tree.has(PINNED) else '').split('\n'):
        words = line.split('#')[0].split()
        if words:
            pinned[words[0]] = words[1:]
    return pinned


def layout(tree):
    """{message: [number, size, field@offset+size, …]}, as the compiler lays them out."""
    text = scan.strip(tree.read(HEADER))
    rows = re.findall(r'\bX\(\s*(\d+)\s*,\s*(\w+)\s*,', text)
    lines = ['#include <stdio.h>', '#include "ipc/messages.h"', 'int main(void)', '{']
    for number, name in rows:
        body = re.search(r'struct\s+ipc_%s\s*\{(.*?)\n?\}' % name, text, re.S)
        lines.append(f'printf("{name} {number} %zu", sizeof(struct ipc_{name}));')
        for field in fields(body[1] if body else ''):
            member = f'((struct ipc_{name} *)0)->{field}'
            lines.append(f'printf(" {field}@%zu+%zu", (size_t)&{member}, sizeof({member}));')
        lines.append('printf("\\n");')
    lines += ['return 0;', '}']
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, 'print.c'), os.path.join(folder, 'print')
        with open(source, 'w', encoding='utf-8') as file:
            file.write('\n'.join(lines) + '\n')
        run(['gcc', '-std=gnu17', '-D_GNU_SOURCE', *tree.include_flags(), source, '-o', program])
        return {words[0]: words[1:] for words in map(str.split, run([program]).splitlines())}


def fields(body):
    for declaration in body.split(';'):
        declaration = ' '.join(declaration.split())
        if declaration:
            first, *others = declaration.split(',')
            for one in [first.split()[-1], *others]:
                yield re.sub(r'\[.*', '', one).strip(' *')


def pin(tree):
    pinned = read_pinned(tree)
    with open(os.path.join(tree.root, PINNED), 'a', encoding='utf-8') as file:
        for name, lines in layout(tree).items():
            if name not in pinned:
                file.write(' '.join([name, *lines]) + '\n')
