"""Reads C well enough for the house tests: includes, functions, their length, parameters and nesting.

No compiler is asked, so it also reads a tree that does not build, on any machine. What it does not know
(K&R definitions, braces that only a macro balances) does not stand in this project."""
import re

TOKEN = re.compile(r'[A-Za-z_]\w*|\n|[^\s\w]|\d\w*')
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
BRANCHES = {'if', 'for', 'while', 'switch'}


def strip(text):
    """The text without comments and without what stands inside literals; lines stay where they are."""
    out, at, end = [], 0, len(text)
    while at < end:
        pair, char = text[at:at + 2], text[at]
        if pair == '/*':
            stop = text.find('*/', at + 2)
            stop = end if stop < 0 else stop + 2
            out.append(' ' + '\n' * text.count('\n', at, stop))
        elif pair == '//':
            stop = text.find('\n', at)
            stop = end if stop < 0 else stop
        elif char in '"\'':
            stop = at + 1
            while stop < end and text[stop] != char and text[stop] != '\n':
                stop += 2 if text[stop] == '\\' else 1
            stop += 1
            out.append(char + char)
        else:
            stop = at + 1
            out.append(char)
        at = stop
    return ''.join(out)


def without_directives(stripped):
    """Preprocessor lines (and their continuations) made empty."""
    lines, inside = [], False
    for line in stripped.split('\n'):
        inside = inside or line.lstrip().startswith('#')
        lines.append('' if inside else line)
        inside = inside and line.rstrip().endswith('\\')
    return '\n'.join(lines)


def includes(text):
    """(line, '<' or '"', name) of each #include; the text is not stripped: names stand in quotes."""
    return [(text.count('\n', 0, m.start()) + 1, m[1], m[2]) for m in INCLUDE.finditer(text)]


class Function:
    def __init__(self, name, line, last_line, parameters, nesting, table_lines):
        self.name, self.line, self.last_line = name, line, last_line
        self.parameters, self.nesting = parameters, nesting
        self.lines = last_line - line + 1 - table_lines


class Scanner:
    def __init__(self, stripped):
        self.tokens, line = [], 1
        for match in TOKEN.finditer(without_directives(stripped)):
            if match[0] == '\n':
                line += 1
            else:
                self.tokens.append((match[0], line))
        self.functions, self.table_lines = [], 0

    def word(self, at):
        return self.tokens[at][0] if at < len(self.tokens) else ''

    def line(self, at):
        return self.tokens[min(at, len(self.tokens) - 1)][1]

    def close(self, at):
        """The position after the bracket that closes the one at `at`."""
        pairs, depth = {'(': ')', '[': ']', '{': '}'}, 0
        while at < len(self.tokens):
            if self.word(at) in pairs:
                depth += 1
            elif self.word(at) in pairs.values():
                depth -= 1
                if depth == 0:
                    return at + 1
            at += 1
        return at

    def run(self):
        at = start = 0
        while at < len(self.tokens):
            word = self.word(at)
            if word in '([':
                at = self.close(at)
            elif word == ';':
                at = start = at + 1
            elif word == '{':
                end = self.close(at)
                if self.is_function(start, at):
                    self.add_function(start, at, end)
                    start = end
                elif self.word(at - 1) == '=':
                    self.table_lines += self.line(end - 1) - self.line(at)
                at = end
            else:
                at += 1
        return self

    def is_function(self, start, brace):
        words = [self.word(i) for i in range(start, brace)]
        return '(' in words and '=' not in words and self.word(brace - 1) != '='

    def add_function(self, start, brace, end):
        at = start
        while at < brace:
            name = self.word(at)
            if self.word(at + 1) == '(' and name != '__attribute__' and not name.isupper():
                break
            at = self.close(at + 1) if self.word(at + 1) == '(' else at + 1
        if at >= brace:
            return
        self.deepest = self.tables = 0
        self.block(brace, end, 0)
        self.functions.append(Function(self.word(at), self.line(at), self.line(end - 1),
                                       self.count_parameters(at + 1), self.deepest, self.tables))

    def count_parameters(self, paren):
        end, depth, count, at = self.close(paren) - 1, 0, 1, paren + 1
        words = [self.word(i) for i in range(at, end)]
        if not words or words == ['void']:
            return 0
        for word in words:
            depth += (word in '([') - (word in ')]')
            count += word == ',' and depth == 0
        return count - (words[-3:] == ['.', '.', '.'])

    def block(self, brace, end, depth):
        at = brace + 1
        while at < end - 1:
            at = self.statement(at, depth)

    def statement(self, at, depth):
        """Notes how deep control statements stand in each other, with braces or without."""
        word = self.word(at)
        if word == '{':
            end = self.close(at)
            self.block(at, end, depth)
            return end
        if word in ('case', 'default'):
            while self.word(at) not in (':', ''):
                at += 1
            return at + 1
        if word in ('do', 'else') and not (word == 'else' and self.word(at + 1) == 'if'):
            at = self.body(at + 1, depth)
            return self.plain(at) if word == 'do' else at
        if word == 'else':
            return self.statement(at + 1, depth)
        if self.is_control(at):
            return self.body(self.close(at + 1), depth)
        return self.plain(at)

    def is_control(self, at):
        """if, for, while, switch, or a macro that stands before a statement as a loop does."""
        if self.word(at + 1) != '(':
            return False
        after = self.word(self.close(at + 1))
        return self.word(at) in BRANCHES or (self.word(at).isupper() and (after == '{' or after.isidentifier()))

    def body(self, at, depth):
        self.deepest = max(self.deepest, depth + 1)
        return self.statement(at, depth + 1)

    def plain(self, at):
        while at < len(self.tokens) and self.word(at) not in (';', '}'):
            if self.word(at) in '([{':
                end = self.close(at)
                if self.word(at) == '{' and self.word(at - 1) == '=':
                    self.tables += self.line(end - 1) - self.line(at)
                at = end
            elif self.word(at) == ':' and self.word(at + 1) != ':' and self.word(at - 2) in (';', '{', '}'):
                return at + 1  # a label
            else:
                at += 1
        return at + 1


def functions(text):
    scanner = Scanner(strip(text)).run()
    return scanner.functions


def file_lines(text):
    """Lines of a file that count: tables do not, nor the continuations of a macro (an X-macro's rows)."""
    rows = sum(1 for line in text.split('\n') if line.rstrip().endswith('\\'))
    return text.count('\n') - rows - Scanner(strip(text)).run().table_lines
