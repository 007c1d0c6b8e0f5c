"""What a reader is told is what stands: generated tables, links, commands and their options."""
import os
import re
import subprocess
import sys

from tree import ROOT

MANUAL = 'docs/commands.md'
SKIPPED = {'.git', 'build', 'build-asan', 'build-fuzz', 'deps', 'fixtures', 'node_modules', '.pytest_cache'}


def tables(tree):
    """docs/limits.md, docs/errors.md and docs/metrics.md are what docs/make_tables.py makes of the source."""
    script = [sys.executable, os.path.join(ROOT, 'docs/make_tables.py'), '--check', tree.root]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    if done.returncode:
        stale = re.match(r'stale: ([^;]*);', done.stdout)
        for path in stale[1].split(', ') if stale else [(done.stdout + done.stderr).strip()]:
            yield f'{path}: stale or missing: run docs/make_tables.py'


def pages(tree):
    for folder, names, files in os.walk(tree.root):
        names[:] = sorted(name for name in names if name not in SKIPPED)
        for file in sorted(files):
            if file.endswith('.md'):
                yield os.path.relpath(os.path.join(folder, file), tree.root)


def anchors(text):
    """As GitHub makes them of headings."""
    for heading in re.findall(r'^#+ (.*)', text, re.M):
        yield re.sub(r'[^\w\- ]', '', heading.strip().lower()).replace(' ', '-')


def links(tree):
    """Every link that stays in this tree ends at a file, and at a heading where it names one; so does every
    path that is written as code and begins with a folder of ours."""
    for page in pages(tree):
        text = tree.read(page)
        plain = re.sub(r'^```.*?^```', '', text, flags=re.M | re.S)
        for target in re.findall(r'\]\(([^)\s]+)\)', plain):
            path, _, anchor = target.partition('#')
            if re.match(r'[a-z]+:', target):
                continue
            to = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not tree.has(to):
                yield f'{page}: the link {target} leads nowhere'
            elif anchor and anchor not in anchors(tree.read(to)):
                yield f'{page}: {to} has no heading #{anchor}'
        for path in re.findall(r'`((?:src|test|docs|deps|bench)/[\w./-]*\w)`', plain):
            if not tree.has(path) and path != 'deps/prefix':
                yield f'{page}: there is no {path}'


def commands(tree):
    """Each subcommand has its heading in the manual, and each of its options stands there."""
    paths = [path for path in tree.files('.c', '.h') if path.startswith('src/command/')]
    macros = {}
    for path in paths:
        for name, body in re.findall(r'^#define (\w+) ((?:.*\\\n)*.*)\n', tree.read(path), re.M):
            macros[name] = body
    manual = tree.read(MANUAL) if tree.has(MANUAL) else ''
    for path in paths:
        for row in re.findall(r'^const struct command command_\w+ = \{\n(.*?)^\};', tree.read(path), re.M | re.S):
            name = re.search(r'\.name = "(\w+)"', row)[1]
            row = re.sub(r'\b[A-Z_]{4,}\b', lambda word: macros.get(word[0], word[0]), row)
            section = re.search(rf'^## {name}\n(.*?)(?=^## |\Z)', manual, re.M | re.S)
            if not section:
                yield f'{path}: {MANUAL} has no heading `## {name}`'
                continue
            for option in re.findall(r'\{\s*"(--?[\w-]+)",', row):
                if not re.search(rf'(?<![\w-]){option}(?![\w-])', section[1]):
                    yield f'{path}: `{option}` is missing below `## {name}` in {MANUAL}'
