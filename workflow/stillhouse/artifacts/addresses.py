"""Addresses of artifacts: settings in, slug and digest out.

An artifact is stored in ``results/<stage>/<slug>-<digest>/<keys>/``, its members one folder below.
The digest covers exactly the settings that shape the artifact, its stage's version, and the digests
of its upstream. The Snakefile imports this module: it does not access the disk and imports no heavy
packages.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import quote

from stillhouse.artifacts.stages import Stage
from stillhouse.errors import StillhouseError

RESULTS = Path("results")
MANIFESTS = RESULTS / "manifests"
TABLES = RESULTS / "tables"
# Beside the folders of an artifact's members: what these have in common.
LINEAGE = "lineage.json"
DIGITS = 12


def canonical(value):
    """Return `value` as JSON text with sorted keys: equal settings give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value):
    """Return the first twelve hexadecimal digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:DIGITS]


def digest_of(spec):
    """Return the digest of a spec written by `Artifact.spec`, from the spec alone.

    Keys of the upstream that equal the artifact's own (for example the seed of a distilled set) are
    part of its path and not digested again.
    """
    own = spec["keys"]
    upstream = {
        name: _each(part, lambda part: _reference(part["digest"], part["keys"], own))
        for name, part in spec["upstream"].items()
    }
    return digest([spec["stage"], spec["version"], spec["settings"], upstream])


def _reference(part_digest, part_keys, own_keys):
    return [part_digest, {k: v for k, v in part_keys.items() if own_keys.get(k) != v}]


def _each(part, function):
    """Apply a function to an upstream artifact, or to each of a list of them."""
    return [function(a) for a in part] if isinstance(part, list | tuple) else function(part)


def slug(*parts):
    """Join parts to a readable file name: letters, digits, dots, dashes, underscores."""
    cleaned = (re.sub(r"[^A-Za-z0-9._-]+", "-", str(part)).strip("-.") for part in parts)
    return "-".join(part for part in cleaned if part)


@cache
def safe_name(class_id):
    """Return a class id as one path component.

    Raises
    ------
    StillhouseError
        If the id is empty, a dot folder, ``lineage.json``, longer than 120 bytes once quoted, or
        has control characters.
    """
    name = quote(class_id, safe=" ")
    reserved = ("", ".", "..", LINEAGE)
    if class_id.strip() in reserved or len(name) > 120 or not class_id.isprintable():
        raise StillhouseError(
            f"class id {class_id!r}: invalid as a folder name; must be 1 to 120 printable "
            f"characters, not '.', '..' or {LINEAGE!r}, where one beyond ASCII counts as 6 to 12"
        )
    return name


def member_folder(address, kind, member):
    """Return the folder of a member of an artifact, as `Path`.

    Parameters
    ----------
    address : str or Path
        The artifact's folder.
    kind : str
        `Stage.member`.
    member : str or int
    """
    return Path(address) / (safe_name(member) if kind == "class_id" else f"{kind}{member}")


def member_spec(spec, kind, member):
    """Return the spec of one member of an artifact, from the spec of the artifact.

    It does not tell how many members there are: more of them may be wanted later.
    """
    address = str(member_folder(spec["address"], kind, member))
    alone = {name: value for name, value in spec.items() if name != "members"}
    return {**alone, "keys": {**spec["keys"], kind: member}, "address": address}


def _sorted(value):
    """Return a value with the keys of all its dicts sorted."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Artifact:
    """A stored result, identified by its settings and its upstream.

    Parameters
    ----------
    stage : Stage
    slug : str
        Readable first part of the name. Not part of the digest.
    settings : dict
        Plain values that shape the artifact, all defaults filled in.
    upstream : dict of str to (Artifact or list of Artifact)
        Artifacts that it is computed from.
    keys : dict of str to (int or str)
        Last component of the path (images per class, seed).
    folder : str
        Folder between the stage and the name (the dataset's name); empty for none.
    n_members : int
        Number of its numbered members (batches, slices, experts); 0 for other members or none.
    """

    stage: Stage
    slug: str
    settings: dict
    upstream: dict = field(default_factory=dict)
    keys: dict = field(default_factory=dict)
    folder: str = ""
    n_members: int = 0

    @cached_property
    def digest(self):
        """Twelve hexadecimal digits over stage, version, settings and upstream; see `digest_of`."""
        upstream = {
            name: _each(part, lambda part: _reference(part.digest, part.keys, self.keys))
            for name, part in self.upstream.items()
        }
        return digest([self.stage.name, self.stage.version, self.settings, upstream])

    @property
    def name(self):
        """Slug and digest: the path component that identifies the artifact's settings."""
        return f"{self.slug}-{self.digest}" if self.slug else self.digest

    @cached_property
    def directory(self):
        """Folder of the artifact, relative to the working directory."""
        keys = "-".join(f"{name}{value}" for name, value in self.keys.items())
        return RESULTS / self.stage.name / self.folder / self.name / keys

    @cached_property
    def relative_path(self):
        """The folder's path below the stage's folder, as text."""
        return "/".join(self.directory.parts[2:])

    @property
    def file(self):
        """Path of the artifact's first file, as text."""
        return str(self.directory / self.stage.files[0])

    def member_file(self, member):
        """Return the path of the first file of one of the artifact's members, as text."""
        return str(member_folder(self.directory, self.stage.member, member) / self.stage.files[0])

    def parts(self):
        """Return (name, artifact) of all upstream artifacts; a name may have several."""
        return [
            (name, artifact)
            for name, part in self.upstream.items()
            for artifact in (part if isinstance(part, list | tuple) else [part])
        ]

    @cached_property
    def _spec(self):
        values = {
            "address": str(self.directory),
            "digest": self.digest,
            "keys": _sorted(self.keys),
            "settings": _sorted(self.settings),
            "slug": self.slug,
            "stage": self.stage.name,
            "upstream": {
                name: _each(part, lambda part: part.spec())
                for name, part in sorted(self.upstream.items())
            },
            "version": self.stage.version,
        }
        others = {"folder": self.folder, "members": self.n_members}
        return values | {name: value for name, value in others.items() if value}

    def spec(self):
        """Return address, settings, keys and upstream as plain sorted values, for ``spec.json``.

        Or ``lineage.json``, of an artifact with members. Sorted, because it is a param of a rule
        and Snakemake compares params as text. Callers must not modify it: artifacts share the specs
        of their upstream.
        """
        return self._spec

    def member_spec(self, member):
        """Return the spec of one member."""
        return member_spec(self.spec(), self.stage.member, member)
