"""Reading Markdown pages: text without code, links, and the anchors of headings."""

import re

ROW = re.compile(r"^\s*\|")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^\s*```")


def prose(text):
    """Return [(line number, line)] of a page without the lines of code blocks."""
    lines, inside = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            lines.append((number, line))
    return lines


def links(text):
    """Return the targets of all links and images outside code."""
    return [target for _, line in prose(text) for target in LINK.findall(_without_code(line))]


def anchors(text):
    """Return the anchors of a page's headings, as GitHub and GitLab derive them."""
    found = []
    for _, line in prose(text):
        if match := re.match(r"#{1,6} (.*)", line):
            title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).strip().lower()
            slug = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
            repeated = found.count(slug)
            found.append(f"{slug}-{repeated}" if repeated else slug)
    return found


def _without_code(line):
    return re.sub(r"`[^`]*`", "", line)
