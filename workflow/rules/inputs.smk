"""Input functions: declared inputs of jobs, and checks of what they need of the user."""


def stop(message):
    """End the run with one line.

    For errors in input functions: Snakemake takes an exception there to mean that the rule cannot
    make the file, and continues without the job if an older file of that name exists.
    """
    sys.exit(f"error: {CONFIGS}: {message}")


def checked(function, *arguments):
    """Call a function, whose error ends the run with one line."""
    try:
        return function(*arguments)
    except StillhouseError as error:
        stop(error)


results_of = {}


def once(function, artifact):
    """Call a function of an artifact once for all of its blocks: a source may have many files."""
    key = (function, artifact.relative_path)
    if key not in results_of:
        results_of[key] = checked(function, plan, artifact)
    return results_of[key]


def unchanged(paths):
    """Ignore the times of artifacts: the content of an address never changes."""
    return [ancient(path) for path in paths]


NEW_CONTENTS = str(Path(workflow.snakemake_tmp_dir, "other-contents"))


@functools.cache
def new_file():
    """Return an empty file that is newer than any report."""
    Path(NEW_CONTENTS).touch()
    return NEW_CONTENTS


def outdated(path, contents):
    """Return an input that is newer than a report, if the report shows other contents.

    Reports have paths without a digest, and their cells may be older than they are. Snakemake would
    notice other params by its own records, which a copy of the results need not have.
    """
    return [new_file()] if Path(path).exists() and shown_by(path) != contents else []


def all_cells(w):
    """Return the manifests of the students of all experiments, after a check of the user's files.

    The input of the default target is read before Snakemake plans the jobs, which takes minutes
    with many classes. Runs of other targets may need none of the files.
    """
    checked(check_files, plan)
    families = plan.families["students"].values()
    return [path for family in families for path in plan.manifests(family.artifact)]


def artifact_inputs(stage, w):
    """Return the declared inputs of an artifact without members."""
    artifact = wanted(stage, w)
    return inputs_of(artifact, (), artifact.file)


def block_inputs(stage, w):
    """Return the declared inputs of the members of one job."""
    chosen = block(stage, w)
    return inputs_of(chosen.artifact, chosen.members, chosen.manifest)


def inputs_of(artifact, members, output):
    """Return the declared inputs; where the output is missing, check what it needs of the user."""
    if not Path(output).exists():
        for part in [part for _, part in artifact.parts() if part.stage.name == "teacher"]:
            check_teacher(part.name)
        once(check_user_files, artifact)
    inputs = declared_inputs(plan, artifact, members) | once(user_files, artifact)
    return {name: unchanged(paths) for name, paths in inputs.items()}


@functools.cache
def check_teacher(name):
    """Compare an existing teacher with the `min_accuracy` of the config."""
    artifact = next(one for one in plan.artifacts["teacher"].values() if one.name == name)
    try:
        check_existing(artifact, plan.min_accuracy(artifact))
    except StillhouseError as error:
        stop(f"teachers: {error}")


def figure_files(name, w):
    """Return {name: files} of what a figure shows, see `reports.shown_files`."""
    return {
        key: reports.shown_files(artifact, members)
        for key, (artifact, members) in figure_inputs(name, w).items()
    }


def figure_title(figure, w):
    """Return the title of a figure, with its experiment, method and seed."""
    return f"{w.experiment}, {w.method}, seed {w.seed}: {figure.title}"
