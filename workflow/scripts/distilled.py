"""Put one method's images of all classes into one set."""

from stillhouse.distilled import distilled
from stillhouse.jobs import run

run(distilled, snakemake)
