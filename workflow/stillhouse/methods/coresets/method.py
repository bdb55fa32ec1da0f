"""Real images, drawn at random or selected by herding or k-means."""

from stillhouse.methods.base import Method


class Random(Method):
    """Images drawn at random: the baseline of all methods."""

    kind = "random"
    baseline = True
    images = "stillhouse.methods.coresets.images:random_images"

    def plan(self, task):
        """Return (upstream, settings) of the distilled set."""
        return {"images": task.images}, task.without()


class Coreset(Method):
    """Images selected in the space of their pixels or of a teacher's features."""

    images = "stillhouse.methods.coresets.images:coreset_images"

    def teachers(self, settings):
        """Return the teacher of the feature space, by key."""
        space = settings["feature_space"]
        return {} if space == "pixels" else {"feature_space": [space]}

    def plan(self, task):
        """Return (upstream, settings) of the distilled set; add the features."""
        upstream, space = {"images": task.images}, task.settings["feature_space"]
        if space != "pixels":
            upstream["features"] = task.teacher_features(task.teacher(space), {})
            space = "teacher"
        return upstream, {**task.without(), "feature_space": space}


class Herding(Coreset):
    """Images whose mean approaches that of the class (Welling, ICML 2009)."""

    kind = "herding"
    papers = ("welling2009herding",)


class KMeans(Coreset):
    """Images nearest to the centres of k-means."""

    kind = "kmeans"
