"""Soft labels: teacher logits of recorded views, one table per distilled set (FKD)."""

import json

import numpy as np
import torch

from stillhouse.artifacts import store
from stillhouse.artifacts.checkpoints import TableCheckpoint
from stillhouse.artifacts.formats import RowGroups
from stillhouse.artifacts.progress import track
from stillhouse.augmentation.views import GENERATOR, draw, render
from stillhouse.data.distilled_set import SCHEMA, read_set
from stillhouse.data.transforms import normalise
from stillhouse.evaluation import label_tables
from stillhouse.evaluation.teacher_ensemble import TeacherEnsemble


def labels(inputs, spec, context):
    """Stage: store teacher logits for the augmented views of every epoch."""
    return SoftLabels(inputs, spec, context)


class SoftLabels:
    """Compute the soft label table of a distilled set."""

    def __init__(self, inputs, spec, context):
        self.settings, upstream = spec["settings"], spec["upstream"]
        self.views_stored = self.settings.get("views_stored", True)
        self.origin = {
            "distilled": upstream["distilled"]["address"],
            "teachers": json.dumps([f"{t['slug']}-{t['digest']}" for t in upstream["teachers"]]),
        }
        path, device = inputs["distilled"], context.torch_device()
        pixels, self.hard = read_set(store.read_table(path, schema=SCHEMA))
        self.images = torch.from_numpy(pixels).to(device)
        classes = store.read_spec(path.parent)["settings"]["classes"]
        self.n_classes = len(classes)
        self.teachers = TeacherEnsemble(inputs["teachers"], classes, device)
        self.schema = label_tables.table_schema(
            self.settings["encoding"], self.views_stored, self.n_classes
        )
        self.max_batch = context.batch_size

    def __call__(self, member, context):
        """Return the file of the label table."""
        n_epochs = self.settings["epochs_stored"]
        tables = resumed_epochs(self.epoch_table, n_epochs, self.schema, context)
        size = label_tables.epochs_per_group(len(self.images), self.n_classes)
        schema = self.schema.with_metadata(self.metadata(context))
        groups = label_tables.grouped(tables, size)
        return {"labels.parquet": RowGroups(schema, groups, label_tables.PARQUET)}

    def metadata(self, context):
        """Return the metadata of the table, all of it text."""
        settings, views = self.settings, self.settings["views"]
        correct = recognised(self.teachers, self.images, self.hard, context.batch_size)
        metadata = {
            "encoding": settings["encoding"],
            "n_images": str(len(self.images)),
            "n_classes": str(self.n_classes),
            "resolution": str(self.images.shape[-1]),
            "mix": views["mix"],
            "mix_per": views.get("mix_per", "row"),
            "recognised": repr(correct),
            **self.origin,
        }
        if "batch_size" in settings:
            metadata["batch_size"] = str(settings["batch_size"])
        if not self.views_stored:
            metadata |= {
                "views": json.dumps(views, sort_keys=True),
                "seed": str(settings["seed"]),
                "view_generator": str(GENERATOR),
                "views_sha256": self.views(0).checksum(),
            }
        return metadata

    def views(self, epoch):
        """Return the views of an epoch, of arrays."""
        settings, (n, _, _, side) = self.settings, self.images.shape
        batch_size = settings.get("batch_size", self.max_batch)
        return draw(settings["views"], settings["seed"], epoch, n, side, batch_size)

    def epoch_table(self, epoch):
        """Return the table of one epoch."""
        n, batch = len(self.images), self.settings.get("batch_size", self.max_batch)
        views = self.views(epoch)
        # Complete batches per pass, so that it contains both images of each mix.
        step = max(self.max_batch // batch, 1) * batch
        on_device = views.to(self.images.device)
        outputs = [
            self.teachers(render(self.images, on_device, first, first + step))
            for first in range(0, n, step)
        ]
        logits, side = torch.cat(outputs).cpu().numpy(), self.images.shape[-1]
        table = label_tables.to_table(epoch, views, logits, self.settings["encoding"], side)
        return table.select(self.schema.names)


def recognised(teachers, images, labels, batch_size):
    """Return the accuracy [%] of teachers on the distilled images, without augmentation.

    Parameters
    ----------
    teachers : TeacherEnsemble
    images : (n, 3, side, side) uint8 tensor
    labels : (n,) int64 array
    batch_size : int
    """
    outputs = torch.cat([teachers(normalise(batch)) for batch in images.split(batch_size)])
    return 100 * float((outputs.argmax(1).cpu().numpy() == np.asarray(labels)).mean())


def resumed_epochs(make_epoch, epochs, schema, context):
    """Yield the tables of all epochs; those of an earlier job from its checkpoint.

    Parameters
    ----------
    make_epoch : callable
        From the epoch to its table.
    epochs : int
    schema : pyarrow.Schema
    context : stillhouse.artifacts.context.Context
    """
    checkpoint, done = TableCheckpoint(context, schema), 0
    for table in checkpoint.resume("labels", "epoch"):
        yield table
        done += 1
    for epoch in track(range(done, epochs), epochs - done, "label epoch"):
        table = make_epoch(epoch)
        yield table
        checkpoint.add(table)
