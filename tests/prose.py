"""Check the wording of all text files: ``python tests/prose.py``, part of ``make check``.

Prints ``file:line: 'words'; use …`` per match and exits with status 1 if there are any. A line that
must have such words, for example a quotation, ends with the marker ``prose: keep`` in a comment.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (".py", ".smk", ".yaml", ".yml", ".md", ".rst", ".jinja", "Snakefile")
KEEP = "prose: keep"
NETWORK = r"(?:network|teacher|student|observer|denoiser|layer|model)s?"
UNIT = r"(?:batch|cell|class|core|epoch|image|iteration|job|method|row|seed|stage|step)"
COUNTED = r"(?:artifact|cell|epoch|file|image|job|line|number|place|row|seed|step)s?"
# Pattern → replacement, by docs/development (glossary) and the house rules on prose.
WORDS = {
    r"\banew\b": "again, or recomputed",
    r"\bstored as one\b": "without members",
    r"(?<!or )\bnot there\b": "missing",
    r"\b(?:is|are|was|were|be) whole\b": "complete",
    r"\bwhat (?:is|are) (?:complete|kept|left|missing|needed|there|wanted|whole)\b": "a noun",
    r"\bside files?\b": "checkpoint",
    r"\b(?:can|could|may|to) be left out\b": "optional",
    r"\bgiven twice\b": "duplicate",
    r"\bcannot be had\b": "not available",
    r"\bround in a circle\b": "circular",
    r"\bwhere there (?:is|are) (?:any|none|no|one|several)\b": "if any, or if missing",
    r"\bfor people\b": "reports",
    r"\bso many (?:cells|classes|images|jobs|rows|seeds|steps|threads)\b": "this number of",
    r"\bmends?\b|\bmended\b": "fix",
    r"\bjudges?\b|\blessons?\b": "teachers, or labels",
    r"\bwatched\b": "matched, or recorded",
    r"\bkin\b": "subclass, or family",
    r"\b(?:tells?|told|telling|says?|said) whether\b": "return whether",
    rf"\b{NETWORK} (?:sees?|says?|looks?|knows?|thinks?|is told|are told)\b": "computes, or scores",
    r"\b(?:code|config|docs|line|message|paper|plan|rule|schema|table)s? says?\b": "has, or states",
    r'"""(?:Have|Let|Look|Refuse|Say|Tell)\b': "a verb of the domain: Return, Raise, Train, Load …",
    rf"\b(?:{COUNTED}|one) an? {UNIT}\b(?! of)": "per, as in one row per cell",
}
PATTERNS = {re.compile(pattern, re.IGNORECASE): use for pattern, use in WORDS.items()}
# Names of variables in workflow/ without content, except in comprehensions of one line.
VAGUE = {"found", "given", "how", "kept", "one", "said", "some", "there", "told", "words"}
EXEMPT = ("tests/prose.py", "tests/test_prose.py")


def files():
    """Return the paths of all tracked and new text files, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = (path for path in listed.splitlines() if path.endswith(TEXT) and path not in EXEMPT)
    return sorted(path for path in paths if (ROOT / path).is_file())


def wordings(text):
    """Yield (line, words, replacement) of each match of a pattern in a text."""
    for number, line in enumerate(text.splitlines(), 1):
        if KEEP in line:
            continue
        for pattern, use in PATTERNS.items():
            for match in pattern.finditer(line):
                yield number, match[0], f"use {use}"


def vague_variables(text):
    """Yield (line, name, replacement) of each vague variable or parameter in Python code."""
    tree = ast.parse(text)
    exempt = set()
    for node in ast.walk(tree):
        inline = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda)
        if isinstance(node, inline) and node.lineno == node.end_lineno:
            exempt |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in exempt:
            continue
        stored = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        name = node.id if stored else node.arg if isinstance(node, ast.arg) else None
        if name in VAGUE:
            yield node.lineno, name, "name the variable by its content"


def main():
    """Print all matches; return their number."""
    count = 0
    for path in files():
        text = (ROOT / path).read_text(encoding="utf-8")
        matches = list(wordings(text))
        if path.startswith("workflow/") and path.endswith(".py"):
            matches += vague_variables(text)
        for line, words, remedy in sorted(matches):
            print(f"{path}:{line}: {words!r}; {remedy}")
            count += 1
    return count


if __name__ == "__main__":
    sys.exit(main() > 0)
