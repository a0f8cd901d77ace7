#!/usr/bin/env python3
"""Computes expected.csv from the text itself: no server, no HTML, none of the example's code.

    python3 examples/wordcount/expected.py          # writes expected.csv anew
    python3 examples/wordcount/expected.py --check  # fails where the file differs

`error` is a phrase that the row's error must contain; where it is empty, there must be none.
"""

import csv
import io
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
CUT = r"^=== (\S+)\n"


def words(text):
    """A word is a run of letters, digits and apostrophes; `_` marks emphasis and is no part of the text."""
    runs = "".join(c if c.isalnum() or c == "'" else " " for c in text.replace("_", "")).split()
    return sum(any(c.isalnum() for c in run) for run in runs)


def row(line, pages):
    """The status, the words and the error of a line of the list."""
    if line in pages:
        return 200, pages[line], ""
    if line.startswith("/flaky/"):  # heals on the second try
        return 200, pages[line.removeprefix("/flaky")], ""
    if line.startswith("/missing/"):
        return 404, "", "404 Not Found"
    if line.startswith("/cut/"):
        return 200, "", "disconnected"
    return {
        "/silent": ("", "", "timed out"),
        "/broken": (503, "", "503 Service Unavailable"),
        "/latin-1": (200, "", "not UTF-8"),
        "gopher://127.0.0.1/netherfield": ("", "", "cannot fetch gopher"),
        "http://127.0.0.1:1/nobody-listens": ("", "", "3 tries"),
        "no-such-file.html": ("", "", "cannot read no-such-file.html"),
        "http://[not-a-url/": ("", "", "invalid"),
    }[line]


def main():
    text = (HERE / "corpus/pride-and-prejudice.txt").read_text("utf-8")
    cut = re.split(CUT, text, flags=re.MULTILINE)
    pages = {path: words(page) for path, page in zip(cut[1::2], cut[2::2])}
    lines = (HERE / "corpus/urls.txt").read_text("utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n")
    write.writerow(["number", "url", "status", "words", "error"])
    for number, line in enumerate(lines, 1):
        write.writerow([number, line, *row(line, pages)])
    file = HERE / "expected.csv"
    if "--check" not in sys.argv:
        file.write_text(out.getvalue(), "utf-8")
    elif file.read_text("utf-8") != out.getvalue():
        sys.exit(f"{file} is not what this script computes: run it without --check and look at the difference")


main()
