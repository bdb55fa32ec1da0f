"""Put one method's images of all classes into one set."""

from stillhouse.artifacts.jobs import run
from stillhouse.methods.distilled import distilled

run(distilled, snakemake)
