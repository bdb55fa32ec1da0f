"""Artifacts and their addresses: settings in, label and digest out.

An artifact lives at ``results/<stage>/<label>-<digest>/<key>/...``. The digest covers exactly the
settings that shape it, its stage's version, and its upstream's digests. Nothing here touches the
disk or imports a heavy module: a Snakefile is parsed with it.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, unquote

from stillhouse.errors import StillhouseError

RESULTS = Path("results")

# Raised when the numbers of a stage change for the same settings; tests/golden.json sees to it.
VERSIONS = {
    "index": 1,
    "images": 1,
    "teacher": 3,
    "denoiser": 1,
    "latents": 1,
    "inversion": 1,
    "samples": 1,
    "prototypes": 1,
    "decode": 1,
    "patch_scores": 3,
    "class_scores": 1,
    "features": 2,
    "clusters": 1,
    "statistics": 2,
    "synthesis": 2,
    "distilled": 1,
    "labels": 3,
    "students": 3,
    "tables": 5,
    "figures": 4,
}


def canonical(value):
    """Return `value` as JSON text with sorted keys: equal settings give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value):
    """Return the first eight hexadecimal digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:8]


def digest_of(spec):
    """Return the digest of a spec written by `Artifact.spec`, from the spec alone.

    A key that the artifact's own path carries (the seed of a distilled set, say) is not digested
    again where its upstream carries the same one.
    """
    upstream = {
        name: [part["digest"], {k: v for k, v in part["keys"].items() if spec["keys"].get(k) != v}]
        for name, part in spec["upstream"].items()
    }
    return digest([spec["stage"], spec["version"], spec["settings"], upstream])


def label(*parts):
    """Join words to a readable file name part: letters, digits, dots, dashes, underscores."""
    words = (re.sub(r"[^A-Za-z0-9._-]+", "-", str(part)).strip("-.") for part in parts)
    return "-".join(word for word in words if word)


def safe_name(class_id):
    """Return a class id as one path component; `class_of` turns it back.

    Raises
    ------
    StillhouseError
        If the id is empty, a dot folder, longer than 120 bytes once quoted, or has control
        characters.
    """
    name = quote(class_id, safe=" ")
    if class_id.strip() in ("", ".", "..") or len(name) > 120 or not class_id.isprintable():
        raise StillhouseError(
            f"class id {class_id!r} cannot name a folder: use 1 to 120 printable characters, "
            "not '.' or '..'"
        )
    return name


def class_of(path):
    """Return the class id of a per-class artifact from the path of a file in its folder."""
    return unquote(Path(path).parent.name)


def _sorted(value):
    """Return a value with the keys of all its dicts in order."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Artifact:
    """A kept result, known by what made it.

    Parameters
    ----------
    stage : str
        A key of `VERSIONS`; the folder below ``results/``.
    label : str
        What a reader of the path should see first. Not part of the digest.
    settings : dict
        Plain values that shape the artifact, all defaults filled in.
    upstream : dict of str to Artifact
        What it is made from.
    keys : dict of str to (int or str)
        What the path itself says after the digest (images per class, seed, class id).
    folder : str
        Folder between the stage and the label, where there is one (the dataset's name).
    """

    stage: str
    label: str
    settings: dict
    upstream: dict = field(default_factory=dict)
    keys: dict = field(default_factory=dict)
    folder: str = ""

    @cached_property
    def digest(self):
        """Eight hexadecimal digits over stage, version, settings and upstream; see `digest_of`."""
        return digest_of(self.spec(with_digest=False))

    @property
    def name(self):
        """Label and digest: the path component that identifies the artifact's settings."""
        return f"{self.label}-{self.digest}" if self.label else self.digest

    @property
    def directory(self):
        """Folder of the artifact, relative to the working directory."""
        words = [
            f"{name.removeprefix('student_')}{value}"
            for name, value in self.keys.items()
            if name != "class_id"
        ]
        folder = RESULTS / self.stage / self.folder / self.name / "-".join(words)
        return folder / safe_name(self.keys["class_id"]) if "class_id" in self.keys else folder

    @property
    def place(self):
        """The folder's path below the stage's folder, as text."""
        return "/".join(self.directory.parts[2:])

    def at(self, **keys):
        """Return the same artifact with more keys: one class or one seed of a family."""
        return Artifact(
            self.stage, self.label, self.settings, self.upstream, {**self.keys, **keys}, self.folder
        )

    def file(self, name):
        """Return the path of one of the artifact's files, as text."""
        return str(self.directory / name)

    def ancestor(self, stage):
        """Return the first artifact of a stage that this one is made from; None if there is none.

        Of ``images`` and ``index`` there is one a source.
        """
        for part in self.upstream.values():
            found = part if part.stage == stage else part.ancestor(stage)
            if found is not None:
                return found
        return None

    def spec(self, with_digest=True):
        """Return everything that made the artifact as plain sorted values, for ``spec.json``.

        Sorted, because rules have it as a param: Snakemake compares their text.
        """
        values = {
            "keys": _sorted(self.keys),
            "settings": _sorted(self.settings),
            "stage": self.stage,
            "upstream": {name: part.spec() for name, part in sorted(self.upstream.items())},
            "version": VERSIONS[self.stage],
        }
        if with_digest:
            values |= {"address": str(self.directory), "digest": self.digest}
        return values
